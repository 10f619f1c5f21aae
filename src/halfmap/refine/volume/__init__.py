"""Maps: from slices to a volume, and from the FSC of halves to its filter."""
