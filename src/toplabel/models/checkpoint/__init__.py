"""A checkpoint that somebody saved in, its state dict and what it says of itself out."""
