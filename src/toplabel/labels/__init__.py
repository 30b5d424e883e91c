"""Class names, and the files they come in."""
