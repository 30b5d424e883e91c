"""Labelled: images whose class is known, and how their names fit a model's."""

from toplabel.labelled.images import LabelledImages, read_labelled
from toplabel.labelled.matching import Matching, match_classes
from toplabel.labelled.orders import OrderFinding, find_order

__all__ = [
    "LabelledImages",
    "Matching",
    "OrderFinding",
    "find_order",
    "match_classes",
    "read_labelled",
]
