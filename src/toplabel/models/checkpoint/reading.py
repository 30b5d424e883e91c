"""The `CheckpointInfo` of a file in, its tensors on the CPU out; runs nothing of the file.

The one place where a pickle may be read without torch's own guard is here, behind `trust`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from toplabel._internal.notices import quiet_libraries
from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.errors import CheckpointError, MissingDependency
from toplabel.models.checkpoint.allowed_globals import check_allowed, runs_code
from toplabel.models.checkpoint.archive import check_contents, check_structure, read_archive
from toplabel.models.checkpoint.info import CheckpointInfo, naming_file

_SAFE_PICKLES = (2, 10)
_LOOSENS, _FORBIDS_TRUST = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_REASON_LENGTH = 200


def read_checkpoint(
    info: CheckpointInfo, *, allow_globals: Sequence[str] = (), trust: bool = False
) -> Any:
    """What the checkpoint holds: the nesting of its `content` with tensors on the CPU.

    Tensors are plain, strided and detached, and lie within their storages; those of zip files are
    read when they are first used.

    Args:
        info: Of the file, which must not have changed since.
        allow_globals: Names of classes and functions, "module.name", that it may use.
        trust: Whatever the pickle asks for is done, code of any kind; only for files whose maker
            is trusted. The result may then be an nn.Module, or hold one.

    Raises:
        CheckpointError: It is refused, damaged, has changed, or holds tensors that are not plain.
        MissingDependency: It is pickled, and torch is older than 2.10.
    """
    if info.format == "safetensors":
        return _without_surprises(info, lambda: _read_safetensors(info))
    demand_safe_pickles(info.path)
    if not trust:
        check_allowed(info, allow_globals)
    elif os.environ.get(_FORBIDS_TRUST):
        raise CheckpointError(
            f"{_FORBIDS_TRUST} is set, which forbids trusting a pickle: unset it, or drop"
            " trust=True"
        )
    _check_unchanged(info)
    if info.format in ("torchscript", "pt2"):
        return _without_surprises(info, lambda: _read_program(info))
    allowed = [] if trust else [(_import(name), name) for name in allow_globals]
    return _without_surprises(info, lambda: _unpickle(info, allowed, trust=trust))


def demand_safe_pickles(path: Path) -> None:
    """Stop before a pickled file is read by a torch that it could harm.

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


def non_finite_names(state: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The names of those tensors that hold NaN or an infinity."""
    return tuple(name for name, tensor in state.items() if not _is_finite(tensor))


def _is_finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # the sum is finite only if all are, costs no memory, and floats of 8 bits have no isfinite
    wide = tensor if tensor.element_size() >= 4 else tensor.float()
    return bool(torch.isfinite(wide.sum())) or bool(torch.isfinite(wide).all())


def _check_unchanged(info: CheckpointInfo) -> None:
    """Stop where the file is another than was looked at, or its members are damaged."""
    with naming_file(info.path), info.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != info.size_bytes:
            raise CheckpointError("it changed while it was being read; try again")
        if info.format == "torch zip":
            check_contents(file, check_structure(file, read_archive(file, size)))


def _import(name: str) -> Any:
    """The class or function of that name.

    Raises:
        CheckpointError: There is none, or torch never allows it.
    """
    if name == "collections.defaultdict":
        return lambda *_: OrderedDict()  # torch fills no other dicts than its own few
    if runs_code(name) or "." not in name or ":" in name:
        raise CheckpointError(f"cannot allow {name!r}; expected a harmless 'module.name'")
    try:
        with quiet_libraries():
            found = pkgutil.resolve_name(name)
    except Exception:  # whatever the module's own code does
        found = None
    if not callable(found):
        raise CheckpointError(f"cannot allow {name!r}: no such class or function can be imported")
    return found


@contextmanager
def _no_overrides() -> Iterator[None]:
    """Without the variable by which torch lets its caller's choice be turned round."""
    held = os.environ.pop(_LOOSENS, None)
    try:
        yield
    finally:
        if held is not None:
            os.environ[_LOOSENS] = held


def _unpickle(info: CheckpointInfo, allowed: list[tuple[Any, str]], *, trust: bool) -> Any:
    path = info.path
    # A module that is kept would live on the file, which may change; weights are copied.
    lazily = info.format == "torch zip" and path.suffix != ".safetensors" and not trust
    with path.open("rb") as file, _no_overrides():
        # torch takes a path's suffix for its format, so a misnamed file is given open
        source = str(path) if lazily else file
        if trust:
            return torch.load(source, map_location="cpu", mmap=lazily, weights_only=False)
        with torch.serialization.safe_globals([*allowed, *_numpy_dtypes(allowed)]):
            return torch.load(source, map_location="cpu", mmap=lazily, weights_only=True)


def _numpy_dtypes(allowed: list[tuple[Any, str]]) -> list[Any]:
    """The classes that NumPy gives its dtypes, which no pickle names: harmless like numpy.dtype."""
    if not any(name == "numpy.dtype" for _, name in allowed):
        return []
    dtypes = importlib.import_module("numpy").dtypes
    return [getattr(dtypes, name) for name in dtypes.__all__ if name.endswith("DType")]


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
            f"cannot read {str(info.path)!r}: {_reason(error)}; save its weights again where it"
            " was made, torch.save(model.state_dict(), 'weights.pth')"
        ) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "Unsupported operand" in text:
        return "it was saved with a pickle_protocol other than 2, which torch cannot load safely"
    if isinstance(error, ImportError | AttributeError):
        return f"what it needs cannot be imported here: {text}"[:_REASON_LENGTH]
    text = text.partition("WeightsUnpickler error: ")[2] or text
    return f"{type(error).__name__}: {first_line(text)}"[:_REASON_LENGTH]


def _plain(content: Any) -> Any:
    """`content` with tensors that carry nothing but numbers.

    Raises:
        CheckpointError: One is not strided, of a class of its own, or larger than its storage.
    """
    if isinstance(content, torch.Tensor):
        return _plain_tensor(content)
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
