"""Reference outputs: inputs and the logits that eager PyTorch gave, to compare others with."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toplabel.bundle.program import PROGRAM_NAME, REFERENCE_NAME, Program
from toplabel.bundle.trust import Run, have_scores, spread_of
from toplabel.errors import BundleError

if TYPE_CHECKING:
    from toplabel.preprocess.custom import AnyPreprocess

RELATIVE_TOLERANCE = 1e-4
"""What logits may differ by, for each unit of their spread (or in all, where that is below 1)."""

LEAST_SPREAD = 1e-3
"""Logits that vary by less over the reference inputs do not seem to depend on the input."""

_PHOTOS = Path(__file__).parents[1] / "data" / "reference_images"
_MAX_SIZE_BYTES = 512 * 2**20
_ROOM_BYTES = 64 * 2**20  # besides 16 inputs, where their shape is known
_MAX_COUNT = 64
_FIELDS = {"pixels": ("u1", 4), "scale": ("f4", 1), "offset": ("f4", 1), "logits": ("f4", 2)}


@dataclass(frozen=True, slots=True)
class ReferenceOutputs:
    """G inputs, kept as pixels so that they stay small, and the logits that eager PyTorch gave.

    Args:
        pixels: uint8 (G, C, H, W).
        scale: float32 (C,); the tensor is pixels * scale + offset, for each channel.
        offset: float32 (C,).
        logits: float32 (G, K).
    """

    pixels: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    logits: NDArray[np.float32]

    def inputs(self) -> NDArray[np.float32]:
        """The tensors that the model saw: float32 (G, C, H, W)."""
        pixels = self.pixels.astype(np.float32)
        return pixels * self.scale[:, None, None] + self.offset[:, None, None]

    @classmethod
    def draw(
        cls,
        preprocess: AnyPreprocess,
        run: Run,
        *,
        count: int | None = None,
        known: NDArray[np.float32] | None = None,
    ) -> Self:
        """Inputs of the size of the preprocessing, and what `run` gives for each of them alone.

        Args:
            preprocess: Whose size and scale the inputs have.
            run: What gives their logits.
            count: Only the first so many.
            known: The logits of the first ones, which are not asked for again.
        """
        pixels = draw_inputs((preprocess.num_channels, *preprocess.input_size))[:count]
        drawn = cls(pixels, *pixel_scale(preprocess), np.empty((0, 0), np.float32))
        logits = [] if known is None else [known]
        logits += [run(one[None]) for one in drawn.inputs()[0 if known is None else len(known) :]]
        return replace(drawn, logits=np.concatenate(logits))

    def save(self, path: Path) -> None:
        """Write them as a compressed `.npz` file."""
        arrays = {name: getattr(self, name) for name in _FIELDS}
        np.savez_compressed(path, allow_pickle=False, **arrays)

    @classmethod
    def load(
        cls, path: Path, *, expecting: tuple[tuple[int, int, int], int] | None = None
    ) -> ReferenceOutputs:
        """The reference outputs that `save` wrote.

        `expecting` is the ((C, H, W), K) of the program: others are refused before unpacking.

        Raises:
            BundleError: The file is missing, damaged, or holds something else.
        """
        try:
            return cls(**_read_arrays(path, expecting))
        except Exception as error:  # zipfile, zlib and numpy know a dozen kinds for damaged bytes
            raise BundleError(
                f"cannot read the reference outputs {path}: {error}; make the bundle again"
            ) from error


def _read_arrays(
    path: Path, expecting: tuple[tuple[int, int, int], int] | None
) -> dict[str, NDArray[Any]]:
    room = _MAX_SIZE_BYTES if expecting is None else _ROOM_BYTES + 16 * prod(expecting[0])
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > (most := min(room, _MAX_SIZE_BYTES)):
            raise ValueError(f"it unpacks to {size} bytes; expected at most {most}")
        pixels, scale, offset, logits = (_read_shape(archive, name) for name in _FIELDS)
    if (scale, offset, logits[:1]) != (pixels[1:2], pixels[1:2], pixels[:1]) or 0 in pixels:
        raise ValueError("its arrays do not match one another")
    if pixels[0] > _MAX_COUNT:
        raise ValueError(f"it has {pixels[0]} reference inputs; expected at most {_MAX_COUNT}")
    if expecting not in (None, (pixels[1:], logits[1])):
        raise ValueError("its reference inputs do not fit its program")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in _FIELDS}


def _read_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape in an array's header; the array itself is not unpacked."""
    with archive.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} has a header that `save` does not write")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects; expected numbers (allow_pickle=False)")
    if (dtype, len(shape)) != (np.dtype(_FIELDS[name][0]), _FIELDS[name][1]):
        raise ValueError(f"{name} is {dtype} with {len(shape)} dimensions")
    return shape


def pixel_scale(preprocess: AnyPreprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Preprocessing's last step as scale (C,) and offset (C,): tensor = pixels * scale + offset."""
    ends = np.array([0, 255], np.uint8).reshape(1, 2, 1)  # black beside white
    tensor = preprocess.normalise(np.repeat(ends, preprocess.num_channels, axis=2))  # (C, 1, 2)
    offset = tensor[:, 0, 0]
    return (tensor[:, 0, 1] - offset) / np.float32(255), offset.copy()


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether logits are those of eager PyTorch, and by how much they differ.

    Args:
        agrees: The logits may be used in place of the expected ones.
        reason: Why they may not, in one line; empty where they may.
        max_difference: The largest difference of any two logits.
        tolerance: What was allowed: 1e-4 for each unit of `spread`, and at least 1e-4.
        spread: How far the expected logits vary with the input: the widest range of one output.
        same_top1: The best class is the same for every input.
    """

    agrees: bool
    reason: str
    max_difference: float
    tolerance: float
    spread: float
    same_top1: bool


def compare(
    expected: NDArray[np.float32], got: NDArray[np.float32], *, tolerance: float | None = None
) -> Agreement:
    """Whether `got` (G, K) may stand for `expected` (G, K).

    With a `tolerance` logits may differ by so much, and labels where that explains it; else by
    `RELATIVE_TOLERANCE`, and no label may. Rows that are no answers in `expected` (`have_scores`)
    must be none in `got` either; most must be answers. A class that is
    masked with minus infinity must be so in both.
    """
    if got.shape != expected.shape:
        return _no_agreement(f"its outputs have shape {got.shape} instead of {expected.shape}")
    usable = have_scores(expected)
    if 2 * usable.sum() < len(expected):
        return _no_agreement(
            "its outputs are not finite (NaN or infinite) on most reference inputs"
        )
    expected64, got64 = expected[usable].astype(np.float64), got[usable].astype(np.float64)
    finite = np.isfinite(expected64)
    if not (
        np.array_equal(usable, have_scores(got)) and np.array_equal(finite, np.isfinite(got64))
    ):
        return _no_agreement("its outputs are NaN or infinite on different inputs than expected")
    spread = spread_of(expected64)
    allowed = RELATIVE_TOLERANCE * max(1.0, spread) if tolerance is None else tolerance
    difference = float(np.abs(expected64[finite] - got64[finite]).max())
    same_top1 = bool((expected64.argmax(axis=1) == got64.argmax(axis=1)).all())
    reason = ""
    if spread <= LEAST_SPREAD:
        reason = (
            "its outputs do not depend on the input (they vary by"
            f" {spread:.2g} over the reference inputs), so nothing can be compared"
        )
    elif difference > allowed:
        reason = f"its outputs differ by up to {difference:.3g}; at most {allowed:.3g} is allowed"
    elif not same_top1 and tolerance is None:
        reason = "its best class differs on a reference input"
    return Agreement(not reason, reason, difference, allowed, spread, same_top1)


def _no_agreement(reason: str) -> Agreement:
    return Agreement(False, reason, float("inf"), RELATIVE_TOLERANCE, 0.0, same_top1=False)


def replay(
    reference: ReferenceOutputs,
    run: Run,
    *,
    batch_sizes: tuple[int, ...] = (1, 2, 5),
    fixed_batch: bool = False,
) -> Agreement:
    """Whether `run`, batch (N, C, H, W) -> logits (N, K), gives them in batches of every size.

    Args:
        reference: The inputs and the expected logits.
        run: What is to be checked.
        batch_sizes: How many inputs to give at once; each size is checked.
        fixed_batch: The program takes one input at a time, so only that is checked.
    """
    found = []
    for size in (1,) if fixed_batch else batch_sizes:
        found.append(_replay(reference, run, range(0, len(reference.pixels), size)))
        if not found[-1].agrees:
            return found[-1]
    return max(found, key=lambda agreement: agreement.max_difference)


def replay_once(
    reference: ReferenceOutputs,
    run: Run,
    *,
    fixed_batch: bool = False,
    tolerance: float | None = None,
) -> Agreement:
    """As `replay`, but each input only once: in batches of 1, 2 and the rest, or one by one.

    For a program whose rows are known not to mix: its network was asked in batches before
    (`bundle/trust.py`), or it has agreed already on another machine or under another version.
    `tolerance` is that of `compare`.
    """
    starts = range(len(reference.pixels)) if fixed_batch else (0, 1, 3)
    return _replay(reference, run, starts, tolerance)


def _replay(
    reference: ReferenceOutputs,
    run: Run,
    starts: Sequence[int],
    tolerance: float | None = None,
) -> Agreement:
    """The same in batches that begin there."""
    inputs, outputs = reference.inputs(), []
    for start, end in pairwise((*starts, len(inputs))):
        output = run(inputs[start:end])
        expected_shape = (end - start, reference.logits.shape[1])
        if output.shape != expected_shape:
            return _no_agreement(
                f"its outputs for {end - start} inputs have shape {output.shape}"
                f" instead of {expected_shape}"
            )
        outputs.append(output)
    return compare(reference.logits, np.concatenate(outputs), tolerance=tolerance)


def checked_program(
    folder: Path,
    reference: ReferenceOutputs,
    agreement: Agreement,
    *,
    output_name: str,
    checked_with: str,
    **facts: Any,
) -> Program:
    """The program whose file and reference outputs are in `folder`.

    Args:
        folder: Where it was made.
        reference: What it was compared with.
        agreement: How well it agreed.
        output_name: The name of its one output.
        checked_with: What it ran on when it was compared.
        facts: The further fields of `Program`.
    """
    logits, (_, channels, height, width) = reference.logits, reference.pixels.shape
    return Program(
        path=folder / PROGRAM_NAME,
        reference_path=folder / REFERENCE_NAME,
        input_shape=(channels, height, width),
        outputs=logits.shape[1],
        agreement={
            "max_difference": agreement.max_difference,
            "tolerance": agreement.tolerance,
            "spread": agreement.spread,
            "checked_with": checked_with,
        },
        output_name=output_name,
        **facts,
    )


def draw_inputs(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Eight different images for a model that takes (C, H, W): uint8 (8, C, H, W).

    Three photos, coarse and fine noise, a slope of colours, and flat light and dark. The same at
    every call and on every machine; they pack well.
    """
    channels, height, width = shape
    images = [*_photos(height, width), *_noise(height, width), _slope(height, width)]
    images += [np.full((height, width, 3), value, np.uint8) for value in (232, 24)]
    return np.stack([_with_channels(image, channels) for image in images])


def _photos(height: int, width: int) -> list[NDArray[np.uint8]]:
    """The three photos, uint8 (H, W, 3) each, squashed to the size."""
    photos = []
    for path in sorted(_PHOTOS.glob("*.png")):
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        photos.append(np.asarray(resized))
    assert len(photos) == 3, f"three photos belong into {_PHOTOS}"
    return photos


def _noise(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Blocks of 8 x 8 pixels of any colour, and single pixels that are either black or white."""
    generator = np.random.Generator(np.random.PCG64(8))
    small = ((height + 7) // 8, (width + 7) // 8, 3)
    blocks = generator.integers(0, 256, small, dtype=np.uint8)
    blocks = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    dots = generator.integers(0, 2, (height, width, 1), dtype=np.uint8) * np.uint8(255)
    return [blocks, dots.repeat(3, axis=2)]


def _slope(height: int, width: int) -> NDArray[np.uint8]:
    """Red grows downwards, green to the right, blue falls to the right."""
    down = np.linspace(0, 255, height).astype(np.uint8)[:, None].repeat(width, axis=1)
    right = np.linspace(0, 255, width).astype(np.uint8)[None, :].repeat(height, axis=0)
    return np.stack([down, right, 255 - right], axis=2)


def _with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(H, W, 3) -> (C, H, W): the grey value for one channel, else the colours, repeated."""
    if channels == 1:
        image = image.mean(axis=2, keepdims=True).astype(np.uint8)
    order = [channel % image.shape[2] for channel in range(channels)]
    return np.ascontiguousarray(image[:, :, order].transpose(2, 0, 1))
