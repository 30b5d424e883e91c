"""Explaining: what in a picture spoke for a label, as a heat map over it."""

from toplabel.analysis.explain.explain import explain, explain_picture
from toplabel.analysis.explain.explanation import Explanation, Method, MethodChoice

__all__ = ["Explanation", "Method", "MethodChoice", "explain", "explain_picture"]
