"""One short file a step: what it is declared as, and the science that it calls."""
