"""TIFF: which of a file's images is meant, and the layouts that Pillow does not read right."""
