"""Immutable records and tables, and the schema of every column."""
