"""Labelled: images whose class is known, and how their names fit a model's."""

from toplabel.analysis.data.images import LabelledImages, read_labelled
from toplabel.analysis.data.label_order import OrderFinding, find_order
from toplabel.analysis.data.matching import Matching, match_classes

__all__ = [
    "LabelledImages",
    "Matching",
    "OrderFinding",
    "find_order",
    "match_classes",
    "read_labelled",
]
