"""From two half-maps to a mask and a sharpened map."""
