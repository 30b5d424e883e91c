"""Pixels in, tensor out, exactly as the model was trained to see them."""
