"""Comparison: two ways to run a model, stage by stage; the first stage that differs."""

from toplabel.analysis.compare.compare import Comparison, ImageComparison, compare

__all__ = ["Comparison", "ImageComparison", "compare"]
