"""A checkpoint that somebody saved in, what it is and holds out; nothing of it is ever run."""

from toplabel.checkpoint.contents import Contents, find_contents
from toplabel.checkpoint.outline import Outline, read_outline
from toplabel.checkpoint.tensors import Opaque, TensorInfo

__all__ = [
    "Contents",
    "Opaque",
    "Outline",
    "TensorInfo",
    "find_contents",
    "read_outline",
]
