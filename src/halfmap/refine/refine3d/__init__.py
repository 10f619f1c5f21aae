"""Refinement of two independent halves."""
