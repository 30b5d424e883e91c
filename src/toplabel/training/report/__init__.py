"""A training's report: what it reached, what it gets wrong, and what to do next, on one page."""
