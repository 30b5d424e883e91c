"""Explaining: what in a picture spoke for a label, as a heat map over it."""

from toplabel.explaining.explaining import explain, explain_picture
from toplabel.explaining.explanation import Explanation, Method, MethodChoice

__all__ = ["Explanation", "Method", "MethodChoice", "explain", "explain_picture"]
