"""Halfmap: cryo-EM from raw movies to a density map that can be trusted."""

__version__ = "0.1.0.dev0"
