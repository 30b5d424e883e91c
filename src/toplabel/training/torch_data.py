"""Photos and their classes in; batches for a network to learn from, or to be asked about, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from toplabel._internal.ordered_map import batched, ordered_map
from toplabel.errors import ModelError
from toplabel.image.options import ReadOptions
from toplabel.image.reading import read_image
from toplabel.models.zoo_import import import_torchvision_transforms
from toplabel.preprocess.preprocess import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.preprocess.custom import AnyPreprocess

SMALLEST_CROP = 0.35
"""Of a photo's area; below, what it shows is often cut away."""

SMALL = 64
"""Pixels of a network's input, up to which photos are moved, not cropped and resized: a resize of
32 pixels blurs what they show."""

_OPERATIONS, _MAGNITUDE = 2, 7
"""Of RandAugment (Cubuk et al. 2020): how many changes, and how strong of 30."""

_GREY = (128, 128, 128)
"""What fills the corners of a photo that is turned."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""float32 (N, C, h, w) and int64 (N,): inputs, and their classes."""


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Photos of known classes, read anew each time: memory does not grow with their number.

    Args:
        sources: N of them, as `read_image` takes them; all can be read.
        targets: int (N,), their classes.
        preprocess: What the network is to see of them, at rest.
        read: Limits and choices in reading.
        seed: Of all that is drawn.
        threads: That read and change photos.
    """

    sources: Sequence[str]
    targets: NDArray[np.int64]
    preprocess: Preprocess
    read: ReadOptions = field(default_factory=ReadOptions)
    seed: int = 0
    threads: int = 1

    @property
    def example(self) -> NDArray[np.float32]:
        """An input of the network that shows nothing: float32 (1, C, h, w)."""
        return example_of(self.preprocess)

    def batches(self, chosen: Sequence[int], *, size: int) -> Iterator[Batch]:
        """The chosen photos as the network sees them when it labels, in their order."""
        parts = batched(chosen, size)
        return ordered_map(
            lambda part: self._batch(part, [self._plain(index) for index in part]),
            parts,
            workers=self.threads,
        )

    def augmented_batches(
        self, chosen: Sequence[int], *, size: int, epoch: int, first: int = 0
    ) -> Iterator[Batch]:
        """The chosen photos in an order of the epoch's, each cropped, mirrored and changed at will.

        What is drawn for a photo depends on the seed, the epoch and its number alone: not on how
        many threads there are, nor on what was drawn before.

        Args:
            chosen: Numbers of photos.
            size: Of a batch.
            epoch: Each has draws of its own.
            first: The number of the batch to begin with.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(np.asarray(chosen))
        return ordered_map(
            lambda part: self._batch(part, [self._augmented(index, epoch) for index in part]),
            batched(order[first * size :].tolist(), size),
            workers=self.threads,
        )

    def _batch(self, chosen: Sequence[int], inputs: list[NDArray[np.float32]]) -> Batch:
        return torch.from_numpy(np.stack(inputs)), torch.from_numpy(self.targets[chosen])

    def _plain(self, index: int) -> NDArray[np.float32]:
        image = read_image(self.sources[index], options=self.read)
        return self.preprocess(image.pixels, max_pixels=self.read.max_pixels)

    def _augmented(self, index: int, epoch: int) -> NDArray[np.float32]:
        size = self.preprocess.resized_size
        image = read_image(self.sources[index], options=self.read, resized_size=size)
        with _Draws((self.seed, epoch, index)):
            changed: Image.Image = self._changes(Image.fromarray(image.pixels))
        return self._without_resize(np.asarray(changed))

    @cached_property
    def _changes(self) -> Callable[[Image.Image], Any]:
        v2 = import_torchvision_transforms()
        size = self.preprocess.input_size
        filter_ = v2.InterpolationMode(self.preprocess.interpolation)
        if max(size) <= SMALL:
            margin = max(1, max(size) // 8)
            crop = [
                v2.Resize(max(size), filter_),
                v2.RandomCrop(size, padding=margin, padding_mode="reflect"),
            ]
        else:
            crop = [v2.RandomResizedCrop(size, (SMALLEST_CROP, 1), interpolation=filter_)]
        random = v2.RandAugment(_OPERATIONS, _MAGNITUDE, fill=list(_GREY))
        changes: Callable[[Image.Image], Any] = v2.Compose(
            [*crop, v2.RandomHorizontalFlip(), random]
        )
        return changes

    @cached_property
    def _without_resize(self) -> Preprocess:
        """What is left to do to a photo that has the network's size already."""
        return replace(self.preprocess, resize_mode="none", resize_size=None)


def example_of(preprocess: Preprocess) -> NDArray[np.float32]:
    """An input of a network that shows nothing: float32 (1, C, h, w)."""
    return np.zeros((1, preprocess.num_channels, *preprocess.input_size), np.float32)


def check_preprocess(preprocess: AnyPreprocess, *, name: str) -> Preprocess:
    """The preprocessing, where photos can be changed at will before it.

    Raises:
        ModelError: They cannot; says why.
    """
    if not isinstance(preprocess, Preprocess):
        raise ModelError(
            f"{name} cannot be fine-tuned: its preprocessing {preprocess.name} is code, which a"
            " bundle cannot hold; pass a preset, a JSON file or a transform that can be translated"
        )
    if isinstance(preprocess.channels, int):
        raise ModelError(
            f"{name} cannot be fine-tuned: it takes {preprocess.channels} channels that are no"
            " photo's; expected rgb, bgr or grey"
        )
    return preprocess


class _Draws(TorchFunctionMode):
    """While it lasts, what this thread draws with torch comes from a generator of its own.

    torchvision draws from the one generator that all threads share.
    """

    _DRAWING = frozenset({torch.rand, torch.randint, torch.randperm, torch.Tensor.uniform_})

    def __init__(self, seed: Sequence[int]) -> None:
        super().__init__()
        state = int(np.random.default_rng([*seed]).integers(1 << 62))
        self._generator = torch.Generator().manual_seed(state)

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, with this generator where it draws."""
        given = dict(kwargs or {})
        if function in self._DRAWING:
            given["generator"] = self._generator
        return function(*args, **given)
