"""Image: any source in, upright RGB pixels out, or an `ImageError` with one of the fixed codes."""

from toplabel.image.picture import Picture, ReadOptions
from toplabel.image.reading import read_image, source_name

__all__ = ["Picture", "ReadOptions", "read_image", "source_name"]
