"""Images of known classes in; a model that labels such images, and how good it is, out."""
