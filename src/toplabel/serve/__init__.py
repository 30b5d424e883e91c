"""Serving: models in, an HTTP server out that says what an image is.

Needs the extra `serve`. Imports no torch, unless one of its models does.
"""
