"""Serving: models in, an HTTP server out that labels images.

Needs the extra `serve`. Imports no torch, unless one of its models does.
"""
