"""Preprocess: pixels in, tensor out, exactly as the model was trained to see them."""

from toplabel.preprocess.preprocess import Preprocess, read_preprocess

__all__ = ["Preprocess", "read_preprocess"]
