"""A first map from particles alone."""
