"""Explain a prediction: an image in, a heat map of the evidence for a label out."""
