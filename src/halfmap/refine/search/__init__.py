"""Poses of particles against a map: everywhere, or near where they were."""
