"""Runs jobs and their items: here, in worker processes, or on a cluster."""
