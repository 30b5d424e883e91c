"""How often a model is right, on images whose classes are known."""
