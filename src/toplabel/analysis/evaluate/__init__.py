"""Evaluation: how often a model is right, on images whose classes are known."""

from toplabel.analysis.evaluate.evaluate import Evaluation, evaluate
from toplabel.analysis.evaluate.metrics import ClassMeasures, Measure, Measures
from toplabel.analysis.evaluate.paired_test import Pairing, pair

__all__ = [
    "ClassMeasures",
    "Evaluation",
    "Measure",
    "Measures",
    "Pairing",
    "evaluate",
    "pair",
]
