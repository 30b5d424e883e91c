"""Any source in, upright RGB pixels out, or an `ImageError` with one of the fixed codes."""
