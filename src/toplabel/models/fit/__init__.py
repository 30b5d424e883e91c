"""Fitting: a class of the user's and a state dict brought together.

Names and arguments are read without torch; what needs it is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from toplabel.models.fit.locating import locate_class_file, parse_arguments, parse_class

if TYPE_CHECKING:
    from toplabel.models.fit.classes import build_module as build_module
    from toplabel.models.fit.weights import Fit as Fit
    from toplabel.models.fit.weights import fit as fit

__all__ = [
    "Fit",
    "build_module",
    "fit",
    "locate_class_file",
    "parse_arguments",
    "parse_class",
]

_LATER = {"build_module": "classes", "Fit": "weights", "fit": "weights"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
