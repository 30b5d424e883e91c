"""Images whose classes are known, and how their classes fit a model's labels."""
