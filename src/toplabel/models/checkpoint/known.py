"""Known globals: the names that torch lets a weights-only pickle use, without importing torch.

A snapshot of torch 2.13; a test compares it with the installed one.
"""

from __future__ import annotations

from toplabel.models.checkpoint.tensors import ITEM_SIZES

_STORAGE_DTYPES = {
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "Byte": "uint8",
    "Char": "int8",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "Int": "int32",
    "Long": "int64",
    "Short": "int16",
}

_UNTYPED = "torch.storage.UntypedStorage"

#: The dtype of each storage class.
STORAGES = {
    _UNTYPED: "uint8",
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}Storage": dtype for name, dtype in _STORAGE_DTYPES.items()},
}

_QUANTIZED_KINDS = ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")

QUANTIZED_STORAGES = frozenset(f"torch.{name}Storage" for name in _QUANTIZED_KINDS)

_ODD_DTYPES = (
    *("float4_e2m1fn_x2", "bits16", "bits1x8", "bits2x4", "bits4x2", "bits8"),
    *(f"{sign}{bits}" for sign in ("int", "uint") for bits in range(1, 8)),
    *(name.lower() for name in _QUANTIZED_KINDS),
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

_TENSORS = (
    "torch.Tensor",
    *(f"{place}.{name}Tensor" for place in ("torch", "torch.cuda") for name in (*_NUMBERS, "Bool")),
    *(
        f"{place}.{name}Tensor"
        for place in ("torch.sparse", "torch.cuda.sparse")
        for name in _NUMBERS
    ),
)

PARAMETER = "torch.nn.parameter.Parameter"
FROM_TYPE = "torch._tensor._rebuild_from_type_v2"

#: What a tensor may say it is without being of a class of its own.
PLAIN_TENSORS = frozenset({"torch.Tensor", PARAMETER})

#: How the tensors are called whose rebuilding is allowed by torch and not by us, and the remedy.
UNSUITABLE = {
    "torch._utils._rebuild_qtensor": ("quantized", "save the float model's weights"),
    "torch._utils._rebuild_sparse_tensor": ("sparse", "save it with .to_dense()"),
    "torch._utils._rebuild_meta_tensor_no_storage": ("meta", "save tensors that have data"),
    "torch._utils._rebuild_nested_tensor": ("nested", "save its parts as tensors of their own"),
    "torch._utils._rebuild_wrapper_subclass": ("wrapper", "save the tensor within"),
    **{name: ("sparse", "save it with .to_dense()") for name in _TENSORS if ".sparse." in name},
}

REBUILDERS = (
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
)

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
        FROM_TYPE,
        *PLAIN_TENSORS,
        *STORAGES,
        *QUANTIZED_STORAGES,
        *CONSTANTS,
        *_TENSORS,
        *UNSUITABLE,
        *REBUILDERS,
    }
)

#: Modules whose functions run what they are given: no user's word makes them harmless.
_RUNNING_MODULES = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "pickle", "_pickle", "shutil"}
    | {"ctypes", "code", "pty", "pdb", "bdb", "timeit", "socket", "multiprocessing", "webbrowser"}
    | {"commands"}
)
_RUNNING_BUILTINS = frozenset(
    {"exec", "eval", "compile", "__import__", "open", "getattr", "setattr", "delattr", "input"}
    | {"breakpoint", "globals", "vars", "apply", "execfile"}
)


def runs_code(name: str) -> bool:
    """Whether a global of this name, "module.name", runs whatever it is given."""
    module, _, inner = name.partition(".")
    if module in ("builtins", "__builtin__"):
        return inner in _RUNNING_BUILTINS
    return module in _RUNNING_MODULES
