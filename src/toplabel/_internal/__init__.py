"""What the rooms above share: platform, optional imports, ordered threads."""
