"""Evaluation: how often a model is right, on images whose classes are known."""

from toplabel.evaluation.evaluating import Evaluation, evaluate
from toplabel.evaluation.measures import ClassMeasures, Measure, Measures
from toplabel.evaluation.pairing import Pairing, pair

__all__ = [
    "ClassMeasures",
    "Evaluation",
    "Measure",
    "Measures",
    "Pairing",
    "evaluate",
    "pair",
]
