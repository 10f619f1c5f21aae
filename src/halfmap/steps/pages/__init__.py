"""Reads what a job wrote and draws its page."""
