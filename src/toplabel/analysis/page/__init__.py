"""The parts that pages about a model share: fragments, tables, thumbnails, one style."""
