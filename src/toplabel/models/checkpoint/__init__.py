"""A checkpoint file in; its header, tensors, state dict and metadata out."""
