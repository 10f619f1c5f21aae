"""Which micrographs are kept, and why the others are not."""
