"""The globals that a pickle may name, and why a checkpoint is refused that names certain others.

`ALLOWED` is a snapshot of torch 2.13, so that torch need not be imported; a test compares it with
the installed one.
"""

from __future__ import annotations

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.info import (
    ITEM_SIZES,
    QUANTIZED,
    QUANTIZED_STORAGES,
    STORAGES,
    CheckpointInfo,
)

_ODD_DTYPES = (
    *("float4_e2m1fn_x2", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8"),
    *(f"{sign}{bits}" for sign in ("int", "uint") for bits in range(1, 8)),
    *(name.lower() for name in QUANTIZED),
)

#: Values that stand for themselves: a dtype, a scheme of quantization.
CONSTANTS = frozenset(
    f"torch.{name}"
    for name in (
        *ITEM_SIZES,
        *_ODD_DTYPES,
        *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine"),
        *("per_channel_symmetric", "per_channel_affine_float_qparams"),
    )
)

_NUMBERS = ("BFloat16", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_SPARSE_TENSORS = tuple(
    f"{module}.{name}Tensor"
    for module in ("torch.sparse", "torch.cuda.sparse")
    for name in _NUMBERS
)
_DENSE_TENSORS = tuple(
    f"{module}.{name}Tensor" for module in ("torch", "torch.cuda") for name in (*_NUMBERS, "Bool")
)

PARAMETER = "torch.nn.parameter.Parameter"
FROM_TYPE = "torch._tensor._rebuild_from_type_v2"

#: The classes that a tensor may name without being a subclass.
PLAIN_TENSORS = frozenset({"torch.Tensor", PARAMETER})

#: What torch would rebuild and we do not: what such tensors are called, and the remedy.
UNSUITABLE = {
    "torch._utils._rebuild_qtensor": ("quantized", "save the float model's weights"),
    "torch._utils._rebuild_sparse_tensor": ("sparse", "save it with .to_dense()"),
    "torch._utils._rebuild_meta_tensor_no_storage": ("meta", "save tensors that have data"),
    "torch._utils._rebuild_nested_tensor": ("nested", "save its parts as tensors of their own"),
    "torch._utils._rebuild_wrapper_subclass": ("wrapper", "save the tensor within"),
    **dict.fromkeys(_SPARSE_TENSORS, ("sparse", "save it with .to_dense()")),
}

#: Exactly what `torch.load(weights_only=True)` accepts unasked.
ALLOWED = frozenset(
    {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch._utils._rebuild_device_tensor_from_cpu_tensor",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        FROM_TYPE,
        *PLAIN_TENSORS,
        *STORAGES,
        *QUANTIZED_STORAGES,
        *CONSTANTS,
        *_DENSE_TENSORS,
        *UNSUITABLE,
    }
)

#: Modules whose functions run what they are given: nothing makes them harmless.
_RUNNING_MODULES = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "pickle", "_pickle", "shutil"}
    | {"ctypes", "code", "pty", "pdb", "bdb", "timeit", "socket", "multiprocessing", "webbrowser"}
    | {"commands"}
)
_RUNNING_BUILTINS = frozenset(
    {"exec", "eval", "compile", "__import__", "open", "setattr", "delattr", "input"}
    | {"breakpoint", "globals", "vars", "apply", "execfile"}
)

_NAMED = 5
_LONGEST = 80
RESAVE = "torch.save(model.state_dict(), 'weights.pth')"


def runs_code(name: str) -> bool:
    """Whether a global of this name, "module.name", runs whatever it is given."""
    module, _, inner = name.partition(".")
    if module in ("builtins", "__builtin__"):
        return inner in _RUNNING_BUILTINS
    return module in _RUNNING_MODULES


def check_harmless(info: CheckpointInfo) -> None:
    """Stop at a pickle that names what no checkpoint needs and only an attack calls.

    Raises:
        CheckpointError: It names functions that run whatever they are given.
    """
    harmful = [name for name in info.blocked if runs_code(name)]
    if harmful:
        names = ", ".join(name[:_LONGEST] for name in harmful[:_NAMED])
        raise CheckpointError(
            f"{str(info.path)!r} contains more than weights: it names {names}, which can run any"
            " code and which no checkpoint needs; where it was made, save only its weights:"
            f" {RESAVE}; or, if you trust its author, pass trust=True, which lets it run"
        )


def check_no_program(info: CheckpointInfo) -> None:
    """Stop at a program, which only its author's trust lets run.

    Raises:
        CheckpointError: It is one; says in which safe ways its network can be used.
    """
    if info.format not in ("torchscript", "pt2"):
        return
    kind = "a TorchScript archive" if info.format == "torchscript" else "an exported program"
    own = (
        f'pass its class, arch="FILE.py:{info.whole_module.rpartition(".")[2]}", into which its'
        " weights are loaded; or "
        if info.whole_module
        else ""
    )
    raise CheckpointError(
        f"{str(info.path)!r} is {kind}, a program rather than weights; {own}in the environment that"
        f" made it, save its weights, {RESAVE}, or export it to ONNX; or, if you trust its author,"
        " pass trust=True to run it as it is"
    )
