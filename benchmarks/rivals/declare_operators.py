"""Lets `import torchvision` succeed beside a PyTorch that its compiled library was not built for.

The usual pair from pip on a machine without a GPU: torchvision for CUDA, torch for the CPU. Then
nobody has defined two operators that importing torchvision registers fake kernels for. No model
and no transform used here calls them. Where the pair fits, this does nothing.
"""

import importlib.util

import torch


def _fits() -> bool:
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    assert package.submodule_search_locations is not None
    try:
        torch.ops.load_library(f"{package.submodule_search_locations[0]}/_C.so")
    except OSError:
        return False
    return True


if not _fits():
    LIBRARY = torch.library.Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
