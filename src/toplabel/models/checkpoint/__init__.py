"""A checkpoint that somebody saved in, what it is and holds out; nothing of it is ever run."""

from toplabel.models.checkpoint.header import Outline, read_outline
from toplabel.models.checkpoint.state_dict_search import Contents, find_contents
from toplabel.models.checkpoint.tensors import Opaque, TensorInfo

__all__ = [
    "Contents",
    "Opaque",
    "Outline",
    "TensorInfo",
    "find_contents",
    "read_outline",
]
