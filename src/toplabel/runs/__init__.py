"""Everything labelled, once, whatever happens."""
