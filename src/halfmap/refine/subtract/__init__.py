"""Signal subtraction: particle images without the parts of the map that are not looked at."""
