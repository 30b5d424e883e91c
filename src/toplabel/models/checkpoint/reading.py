"""The `CheckpointInfo` of a file in, its tensors on the CPU out; runs nothing of the file.

Numbers are read from where the header says that they are, into tensors of our own. The one place
where a pickle may do what it asks for is here, behind `trust`.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from toplabel._internal.notices import quiet_libraries
from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import CheckpointError, MissingDependency
from toplabel.models.checkpoint.allowed_globals import RESAVE, check_harmless
from toplabel.models.checkpoint.archive import (
    check_contents,
    check_structure,
    read_archive,
    weights_of,
)
from toplabel.models.checkpoint.info import (
    ITEM_SIZES,
    CheckpointInfo,
    StoredBytes,
    TensorInfo,
    UnknownObject,
    naming_file,
)
from toplabel.models.fit.class_spec import forget_strangers
from toplabel.models.fit.global_state import global_state_kept

logger = logging.getLogger(__name__)

_SAFE_PICKLES = (2, 10)
_FORBIDS_TRUST = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_REASON_LENGTH = 200
_ALIGNED = 16  # bytes: tensors within the file itself start at multiples of it


def read_checkpoint(info: CheckpointInfo, *, trust: bool = False) -> Any:
    """What the checkpoint holds: the nesting of its `content` with tensors on the CPU.

    Tensors are plain, strided and detached, and lie within their storages; those of zip files are
    read when they are first used.

    Args:
        info: Of the file, which must not have changed since.
        trust: Whatever the pickle asks for is done, code of any kind; only for files whose maker
            is trusted. The result may then be an nn.Module, or hold one. Without it objects of
            other classes stay `UnknownObject`, with their state.

    Raises:
        CheckpointError: It is refused, damaged, has changed, or holds tensors that are not plain.
    """
    if info.format == "safetensors":
        return _without_surprises(info, lambda: _read_safetensors(info))
    if not trust:
        check_harmless(info)
        _check_unchanged(info)
        with naming_file(info.path), info.path.open("rb") as file:
            return _Reader(info, file).convert(info.content)
    if os.environ.get(_FORBIDS_TRUST):
        raise CheckpointError(
            f"{_FORBIDS_TRUST} is set, which forbids trusting a pickle: unset it, or drop"
            " trust=True"
        )
    _check_unchanged(info)
    logger.warning("%s is trusted: it may run any code while it is read", info.path.name)
    read = _read_program if info.format in ("torchscript", "pt2") else _unpickle
    return _without_surprises(info, lambda: read(info))


def demand_safe_pickles(path: Path) -> None:
    """Stop before a library reads a pickled file by a torch that it could harm.

    Raises:
        MissingDependency: torch is older than 2.10.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_PICKLES:
        raise MissingDependency(
            f"{path.name} is a pickled file, and torch {torch.__version__} can be attacked through"
            " such files (CVE-2026-24747); pip install 'torch>=2.10', or use weights in the"
            " safetensors format"
        )


class _Reader:
    """Makes tensors of `TensorInfo`s; whatever else a header has stays as it is."""

    def __init__(self, info: CheckpointInfo, file: BinaryIO) -> None:
        self.info, self.file = info, file
        self.made: dict[int, Any] = {}
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.whole: Any = None

    def convert(self, value: Any) -> Any:
        """The value with tensors; what is reached twice is made once."""
        if not isinstance(value, dict | list | tuple | TensorInfo | UnknownObject):
            return value
        if id(value) not in self.made:  # those of the header live as long as it
            self.made[id(value)] = self._convert_parts(value)
        return self.made[id(value)]

    def _convert_parts(self, value: Any) -> Any:
        if isinstance(value, TensorInfo):
            return self._tensor(value)
        if isinstance(value, UnknownObject):
            return UnknownObject(value.kind, self.convert(value.state))
        if isinstance(value, dict):
            return {key: self.convert(part) for key, part in value.items()}
        parts = [self.convert(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts

    def _tensor(self, info: TensorInfo) -> torch.Tensor:
        place = info.place
        if place is None:
            raise CheckpointError("it contains a tensor without numbers; save it again")
        storage = self._storage(place.storage)
        if place.base:
            storage = storage[place.base :]
        steps = zip(info.shape, place.strides, strict=True)
        last = place.offset + sum((size - 1) * stride for size, stride in steps) + 1
        if info.num_elements and last * ITEM_SIZES[info.dtype] > storage.nbytes():
            raise CheckpointError("an array in it has fewer numbers than its shape needs")
        empty = torch.empty(0, dtype=getattr(torch, info.dtype))
        if not info.num_elements:
            return empty.reshape(info.shape)
        return empty.set_(storage, place.offset, info.shape, place.strides)

    def _storage(self, key: str) -> torch.UntypedStorage:
        if key not in self.storages:
            self.storages[key] = self._read_storage(self.info.storages[key])
        return self.storages[key]

    def _read_storage(self, stored: StoredBytes | bytes) -> torch.UntypedStorage:
        if isinstance(stored, StoredBytes):
            zipped = self.info.format in ("torch zip", "torchscript")
            if zipped and not stored.is_text and stored.size and stored.start % _ALIGNED == 0:
                end = stored.start + stored.size
                part: torch.UntypedStorage = self._whole_file()[stored.start : end]
                return part
            self.file.seek(stored.start)
            data = self.file.read(stored.size)
            if len(data) != stored.size:
                raise CheckpointError("it changed while it was being read; try again")
            if stored.is_text:
                try:
                    data = data.decode("utf-8").encode("latin-1")
                except UnicodeError as error:
                    raise CheckpointError("an array in it is no text of bytes") from error
        else:
            data = stored
        if not data:
            return torch.empty(0, dtype=torch.uint8).untyped_storage()
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage()

    def _whole_file(self) -> torch.UntypedStorage:
        """The file mapped into memory: pages are read when used, and copied when written to."""
        if self.whole is None:
            path, size = str(self.info.path), self.info.size_bytes
            self.whole = torch.UntypedStorage.from_file(path, False, size)
        whole: torch.UntypedStorage = self.whole
        return whole


def non_finite_names(state: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The names of those tensors that hold NaN or plus infinity, or minus infinity alone.

    Minus infinity beside numbers masks something: a class that is left out, attention.
    """
    return tuple(name for name, tensor in state.items() if not _is_finite(tensor))


def _is_finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # the sum is finite only if all are, costs no memory, and floats of 8 bits have no isfinite
    wide = tensor if tensor.element_size() >= 4 else tensor.float()
    total = float(wide.sum())
    if total == -math.inf:  # and no NaN, no plus infinity
        return bool(torch.isfinite(wide).any())
    return math.isfinite(total) or bool(torch.isfinite(wide).all())


def _check_unchanged(info: CheckpointInfo) -> None:
    """Stop where the file is another than was looked at, or its members are damaged."""
    with naming_file(info.path), info.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != info.size_bytes:
            raise CheckpointError("it changed while it was being read; try again")
        if info.format == "torch zip" or (info.format == "torchscript" and info.storages):
            archive = read_archive(file, size)
            archive = archive if info.format == "torch zip" else weights_of(archive)
            check_contents(file, check_structure(file, archive))


@contextmanager
def _findable(folders: list[Path]) -> Iterator[None]:
    """Modules of these folders can be imported, after those that are installed."""
    for folder in folders:
        forget_strangers(folder)
    added = [str(folder) for folder in folders]
    sys.path += added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for one in added:
            sys.path.remove(one)


def _unpickle(info: CheckpointInfo) -> Any:
    """Whatever the pickle makes; the class of a network may stand beside it."""
    folders = list(dict.fromkeys((Path.cwd(), info.path.resolve().parent)))
    with info.path.open("rb") as file, _findable(folders), global_state_kept():
        if info.format == "pickle":
            return pickle.load(file)
        # open: torch takes a path's suffix for its format, and the file may change
        return torch.load(file, map_location="cpu", weights_only=False)


def _read_program(info: CheckpointInfo) -> Any:
    """The network in a TorchScript archive or an exported program, which is trusted."""
    if info.format == "torchscript":
        return torch.jit.load(str(info.path), map_location="cpu")  # type: ignore[no-untyped-call]
    with info.path.open("rb") as file:  # torch wants the suffix .pt2 of a path
        return torch.export.load(file).module()


def _read_safetensors(info: CheckpointInfo) -> dict[str, torch.Tensor]:
    library = require("safetensors.torch", extra="torch", purpose="reading safetensors")
    state: dict[str, torch.Tensor] = {}
    for file in info.files[-1:] if len(info.files) == 1 else info.files[1:]:
        state.update(library.load_file(str(file), device="cpu"))
    return {name: state[name] for name in info.content}


def _without_surprises(info: CheckpointInfo, read: Callable[[], Any]) -> Any:
    """What `read` gives, with plain tensors; whatever fails on the way is a CheckpointError."""
    try:
        with quiet_libraries():  # of torch, about its own old formats
            return _plain(read())
    except (CheckpointError, MissingDependency):
        raise
    except Exception as error:  # torch raises whatever its parts raise
        raise CheckpointError(
            f"cannot read {str(info.path)!r}: {_reason(error, info)}; or save its weights where it"
            f" was made, {RESAVE}"
        ) from error


def _reason(error: Exception, info: CheckpointInfo) -> str:
    text = str(error)
    if not isinstance(error, ImportError | AttributeError):
        return f"{type(error).__name__}: {first_line(text)}"[:_REASON_LENGTH]
    reason = f"what it needs cannot be imported here: {text}"[:_REASON_LENGTH]
    if info.whole_module is None:
        return f"{reason}; without trust=True it is read without its classes"
    module, _, name = info.whole_module.rpartition(".")
    where = "stood in the script that saved it" if module == "__main__" else "is needed"
    return (
        f"{reason}; its class {info.whole_module} {where}: pass the file that has it now,"
        f' arch="FILE.py:{name}", into which its weights are loaded without trust=True'
    )


def _plain(content: Any) -> Any:
    """`content` with tensors that carry nothing but numbers.

    Raises:
        CheckpointError: One is not strided, of a class of its own, or larger than its storage.
    """
    if isinstance(content, torch.Tensor):
        return _plain_tensor(content)
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiub":
        return torch.from_numpy(content.astype(content.dtype.newbyteorder("="), order="C"))
    if isinstance(content, np.generic):
        return content.item()
    if type(content) is OrderedDict:
        ordered = OrderedDict((key, _plain(value)) for key, value in OrderedDict.items(content))
        metadata = content.__dict__.get("_metadata")
        if isinstance(metadata, dict) and all(isinstance(v, dict) for v in metadata.values()):
            ordered._metadata = metadata  # type: ignore[attr-defined]  # load_state_dict reads it
        return ordered
    if type(content) in (dict, defaultdict, Counter):
        return {key: _plain(value) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(_plain(value) for value in content)
    return content


def _plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        kind = f"of the class {type(tensor).__name__}"
    elif tensor.layout != torch.strided or tensor.is_nested:
        kind = f"of layout {tensor.layout}"
    elif tensor.is_quantized:
        kind = "quantized"
    elif tensor.device.type != "cpu":
        kind = f"on the device {tensor.device}"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        kind = "larger than its storage"
    else:
        return tensor.detach()
    raise CheckpointError(
        f"it contains a tensor {kind}; expected plain, strided tensors on the CPU"
    )
