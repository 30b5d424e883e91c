"""The names and shapes of a state dict in; the torchvision and timm models that they fit out."""
