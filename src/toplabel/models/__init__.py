"""A name, a file or a module -> a bundle. The room with torch."""
