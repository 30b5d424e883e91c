"""Shapes: what an ONNX file says it takes, held against the recipe."""

from __future__ import annotations

from toplabel.bundle.onnx_header import OnnxInput, OnnxOutline
from toplabel.errors import ModelError, PreprocessError
from toplabel.preprocess import Preprocess

_IMAGE_CHANNELS = (1, 3, 4)


def check_input(outline: OnnxOutline, *, name: str) -> OnnxInput:
    """The one input, which takes a batch of pictures as float32 (N, C, H, W).

    Raises:
        ModelError: There is none or more than one, or it takes something else.
    """
    if len(outline.inputs) != 1:
        names = ", ".join(repr(one.name) for one in outline.inputs) or "none"
        raise ModelError(
            f"{name} takes {len(outline.inputs)} inputs ({names}); expected one, a batch of"
            " pictures"
        )
    (taken,) = outline.inputs
    if taken.dtype != "float32":
        raise ModelError(f"{name} takes {taken.dtype}; expected float32; export it in float32")
    if taken.dimensions is None:
        return taken
    if len(taken.dimensions) != 4:
        raise ModelError(
            f"{name} takes tensors of shape {shape_text(taken)}; expected (N, C, H, W), a batch of"
            " pictures"
        )
    count, channels, height, _ = taken.dimensions
    if isinstance(count, int) and count != 1:
        raise ModelError(
            f"{name} takes exactly {count} pictures at once; export it for one, or for any number"
        )
    if _channels_last(taken) and isinstance(channels, int) and channels not in _IMAGE_CHANNELS:
        raise _refused_order(taken, name)
    if _channels_last(taken) and isinstance(height, str) and isinstance(channels, str):
        raise _refused_order(taken, name)
    return taken


def check_recipe(taken: OnnxInput, preprocess: Preprocess, *, name: str) -> None:
    """Stop where the recipe makes tensors that the program does not take.

    Raises:
        PreprocessError: Their channels, height or width differ.
    """
    made = (preprocess.num_channels, *preprocess.input_size)
    wanted = (taken.dimensions or ("?",) * 4)[1:]
    if any(isinstance(want, int) and want != size for want, size in zip(wanted, made, strict=True)):
        raise PreprocessError(
            f"the recipe makes tensors of shape {made}; {name} takes {shape_text(taken)}; state the"
            " preprocessing that it was exported for"
        )


def shape_text(taken: OnnxInput) -> str:
    """The shape for people: (N, 3, 224, 224); what is free has a name or is "?"."""
    return "?" if taken.dimensions is None else f"({', '.join(map(str, taken.dimensions))})"


def _channels_last(taken: OnnxInput) -> bool:
    return taken.dimensions is not None and taken.dimensions[-1] in _IMAGE_CHANNELS


def _refused_order(taken: OnnxInput, name: str) -> ModelError:
    return ModelError(
        f"{name} takes tensors of shape {shape_text(taken)}, channels last; expected (N, C, H, W);"
        " export it so (tf2onnx: --inputs-as-nchw)"
    )
