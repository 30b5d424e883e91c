"""The one door to torchvision and timm: it opens where their compiled part does not fit torch.

The wheel of torchvision that pip installs is built for one torch, mostly a CUDA one. Beside
another torch its compiled library does not load, and `import torchvision` dies because two
operators are not declared. Models and transforms need neither of them.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from toplabel._internal.optional import require

if TYPE_CHECKING:
    from torch.library import Library

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """The module torchvision.

    Raises:
        MissingDependency: It is not installed, or torch is not.
    """
    require("torch", extra="torch", purpose="torchvision")
    declare_missing_operators()
    return require("torchvision", extra="torch", purpose="using torchvision's models")


def import_torchvision_transforms() -> ModuleType:
    """The module torchvision.transforms.v2.

    Raises:
        MissingDependency: torchvision is not installed, or torch is not.
    """
    import_torchvision()
    return require("torchvision.transforms.v2", extra="torch", purpose="changing photos at will")


def import_timm() -> ModuleType:
    """The module timm.

    Raises:
        MissingDependency: It, torchvision or torch is not installed.
    """
    import_torchvision()
    return require("timm", extra="torch", purpose="using timm's models")


@cache  # the declarations last as long as the returned library does
def declare_missing_operators() -> Library | None:
    """Declare what the compiled library would have declared, where it cannot be loaded."""
    import torch

    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None or _is_loaded(Path(package.origin).parent):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{_SIGNATURE}")  # type: ignore[no-untyped-call]
    return library


def _is_loaded(folder: Path) -> bool:
    """Whether torchvision's compiled library loads beside this torch."""
    import torch

    for compiled in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]:
        try:
            torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]
        except (ImportError, OSError):
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False
