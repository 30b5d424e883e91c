"""Traces: what networks are called with in, the preprocessing of testing or inference out.

Ways that do the same to an image of the network's own size are one. Of several that do not, none
is chosen: they are shown.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from toplabel.errors import PreprocessError
from toplabel.models.advice import what_it_takes
from toplabel.models.input_size import InputSize, find_input_size, gives_rows
from toplabel.models.script.datasets import role_of
from toplabel.models.script.interpret import Interpreter, Trace
from toplabel.models.script.networks import Candidate
from toplabel.models.script.operations import (
    NOT_INSTALLED,
    Step,
    at_sample,
    chain,
    drawn,
    first_step,
    perform,
)
from toplabel.models.script.recipe import Way, describe, fixed_size, recipe_of, way_of, with_front
from toplabel.models.script.sources import Unit
from toplabel.models.script.values import Class, Instance, Made, Place, Unknown
from toplabel.preprocess.preprocess import Preprocess

INFERENCE, TEST, UNUSED, TRAINING = "inference", "test", "unused", "training"
_ORDER = (INFERENCE, TEST, UNUSED, TRAINING)


@dataclass(eq=False)
class Use:
    """A way that a script shows, and what for.

    Args:
        way: From an image to a tensor.
        role: "inference", "test", "unused" or "training".
        place: Where the network is called, or the data set is made.
        title: What to call it: the name of a transform or function.
        own: It stands in a file that the user named.
    """

    way: Way
    role: str
    place: Place
    title: str
    own: bool
    size_reason: str = ""

    @property
    def name(self) -> str:
        """`train.py:transform_test`."""
        return f"{self.place.unit.name}:{self.title}"

    @property
    def steps(self) -> str:
        """`transform_test (train.py:14: ToTensor, Normalize)`."""
        return f"{self.title} ({self.place}: {describe(self.way)})"


@dataclass(frozen=True, eq=False)
class Found:
    """The preprocessing of a network.

    Args:
        use: Where it stands.
        preprocess: A `Preprocess`, or the steps as a function of an image.
        size: (height, width) of its tensors.
        size_reason: Where the size is from.
        flat: The network takes rows of numbers.
        doubts: What a person should know of it, a sentence each.
    """

    use: Use
    preprocess: Preprocess | Way
    size: tuple[int, int]
    size_reason: str
    flat: bool
    doubts: tuple[str, ...]


def find_preprocess(
    interpreter: Interpreter,
    named: list[Unit],
    network: Candidate,
    *,
    words: str,
    wanted: str = "",
) -> Found:
    """What the script does to images before this network sees them.

    Args:
        interpreter: After it has followed the script.
        named: The files that the user named.
        network: With the checkpoint's weights.
        words: Texts that may name a data set.
        wanted: The name of the transform, or of the function, that is meant.

    Raises:
        PreprocessError: There is none, none can be followed, or several contradict one another.
    """
    module = network.module
    assert module is not None
    uses = list(_uses(interpreter, named, network))
    if wanted:
        uses = [use for use in uses if use.title == wanted]
    sized = find_input_size(module, data_set=words)
    chosen: list[Use] = []
    misfits: list[tuple[Use, str]] = []
    for use in uses:
        if problem := _fit(use, module, sized):
            misfits.append((use, problem))
        else:
            chosen.append(use)
    lost = _lost(interpreter, network)
    if not chosen:
        raise PreprocessError(_nothing_found(uses, misfits, lost, sized))
    use, doubts = _choose(chosen, lost)
    size = fixed_size(use.way)
    if size is None:
        raise PreprocessError(f"{use.steps} gives tensors of different sizes for different images")
    made: Preprocess | Way = recipe_of(use.way) or use.way
    reason = use.size_reason or "from the transform"
    return Found(use, made, size, reason, _takes_rows(module, size, made), tuple(doubts))


def _takes_rows(module: nn.Module, size: tuple[int, int], made: Preprocess | Way) -> bool:
    channels = made.num_channels if isinstance(made, Preprocess) else made(drawn((40, 40))).shape[0]
    return not runs(module, (channels, *size)) and runs(module, (channels * size[0] * size[1],))


def runs(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether it gives a row of scores for each of two inputs of a shape."""
    with torch.no_grad():
        return gives_rows(module, (2, *shape), "cpu") or gives_rows(module, (1, *shape), "cpu")


# What there is


def _uses(interpreter: Interpreter, named: list[Unit], network: Candidate) -> Any:
    """All ways, those of calls of this network first."""
    seen: set[int] = set()
    for trace in best_traces(interpreter):
        if isinstance(trace.image, Step) and _is_of(trace, network):
            origin = trace.image.origin
            if origin.kind == "dataset":
                role = _role(trace, origin.dataset)
            else:
                role = TRAINING if trace.training else INFERENCE
            if id(trace.image) not in seen:
                seen.add(id(trace.image))
                yield _use(trace.image, role, trace.place, interpreter, named, trace.function)
    for dataset in interpreter.noted.datasets:
        item = interpreter.dataset_item(dataset, ast.Pass(lineno=dataset.place.line))
        image = item[0] if isinstance(item, list | tuple) and item else item
        if isinstance(image, dict):
            image = next((v for v in image.values() if isinstance(v, Step)), None)
        if isinstance(image, Step) and _is_ready(image):
            role = TEST if role_of(dataset) == "test" else TRAINING
            yield _use(image, role, dataset.place, interpreter, named, "")
    for image, function in interpreter.noted.prepared:
        if id(image) not in seen and _is_ready(image):
            seen.add(id(image))
            yield _use(image, UNUSED, image.place, interpreter, named, function)
    for made, function in interpreter.noted.transforms:
        image = interpreter.transform_alone(made)
        if isinstance(image, Step) and _is_ready(image):
            yield _use(image, UNUSED, made.place, interpreter, named, function)


def best_traces(interpreter: Interpreter) -> list[Trace]:
    """The calls of networks; of one call those with an image that is opened, if there are any."""
    opened = {str(t.place) for t in interpreter.noted.traces if _is_opened(t)}
    return [t for t in interpreter.noted.traces if _is_opened(t) or str(t.place) not in opened]


def _is_opened(trace: Trace) -> bool:
    return isinstance(trace.image, Step) and trace.image.origin.kind in ("file", "dataset")


def has_opened(interpreter: Interpreter) -> bool:
    """Whether some network is called with an image that the script opens, or of a data set."""
    return any(_is_opened(t) and not t.training for t in interpreter.noted.traces)


def _is_ready(image: Step) -> bool:
    """Whether it is a tensor, or an array of floats with its channels first."""
    sample = image.samples[0]
    if hasattr(sample, "unsqueeze"):
        return bool(sample.is_floating_point())
    return isinstance(sample, np.ndarray) and sample.dtype.kind == "f" and sample.ndim >= 3


def _role(trace: Trace, dataset: Any) -> str:
    role = role_of(dataset)
    if trace.training or role == "train":
        return TRAINING if role != "test" else TEST
    return TEST


def _use(
    image: Step, role: str, place: Place, interpreter: Interpreter, named: list[Unit], title: str
) -> Use:
    made = _transform_in(image, interpreter)
    name = next(iter(made.assigned), "") if made is not None else ""
    at = made.place if made is not None else place
    places = (place,) if image.origin.kind == "dataset" else (place, at, image.origin.place)
    own = any(one.unit in named for one in places)
    return Use(way_of(image), role, at, name or title or "steps", own)


def _transform_in(image: Step, interpreter: Interpreter) -> Made | None:
    """The `Compose` whose last operation is among an image's steps."""
    inside = {id(one.args[0]) for one in chain(image) if one.kind == "transform" and one.args}
    made: Made
    for made, _ in interpreter.noted.transforms:
        parts = made.argument("transforms", 0)
        if isinstance(parts, list | tuple) and any(id(part) in inside for part in parts):
            return made
    return None


def _is_of(trace: Trace, network: Candidate) -> bool:
    """Whether a call may be one of this network."""
    called = trace.network
    if isinstance(called, Unknown) and called.networks:
        return any(is_same_network(one, network) for one in called.networks)
    return is_same_network(called, network)


def is_same_network(called: Any, network: Candidate) -> bool:
    """Whether what is called may be this network."""
    value = network.value
    if isinstance(called, Instance) and isinstance(value, Instance):
        return (
            called.kind is value.kind
            or called.kind.name == value.kind.name
            or any(
                part.kind is value.kind
                for part in (*called.args, *called.kwargs.values())
                if isinstance(part, Instance)
            )
        )
    if isinstance(called, Instance):
        return any(part is value for part in called.attributes.values())
    if isinstance(called, Made) and called.name in ("torch.load", "torch.jit.load"):
        return True
    if isinstance(called, Made) and isinstance(value, Made):
        return called.name == value.name
    if isinstance(called, Made):
        return False
    return isinstance(called, Unknown | Class) or called is None


def _lost(interpreter: Interpreter, network: Candidate) -> list[Trace]:
    return [
        trace
        for trace in best_traces(interpreter)
        if isinstance(trace.image, Unknown) and _is_of(trace, network) and not trace.training
    ]


# Which of them fits


def _fit(use: Use, module: nn.Module, sized: InputSize) -> str:
    """Why this network cannot be given what a way gives; empty where it can."""
    way = use.way
    size = fixed_size(way)
    if size is None:
        side, reason = _front(way, module, sized)
        if side is None:
            return reason
        use.way, use.size_reason = with_front(way, side), reason
        size = fixed_size(use.way)
        if size is None:
            return "it gives tensors of different sizes for images of different shapes"
    try:
        shape = use.way(drawn((70, 61))).shape
    except PreprocessError as error:
        return str(error)
    if runs(module, shape) or runs(module, (int(np.prod(shape)),)):
        return ""
    if shape[0] == 3 and sized.channels == 1 and use.way.last.origin.form == "rgb":
        grey = _as_grey(use.way)
        if grey is not None and runs(module, grey(drawn((70, 61))).shape):
            use.way = grey
            return ""
    return f"the network does not take its tensors of shape {shape}{_why_not(module, shape)}"


def _why_not(module: nn.Module, shape: tuple[int, ...]) -> str:
    with torch.no_grad():
        try:
            module(torch.zeros((2, *shape)))
        except Exception as error:  # their code
            return f" ({str(error).splitlines()[0][:160] if str(error) else type(error).__name__})"
    return ""


def _as_grey(way: Way) -> Way | None:
    """The same steps on grey images: what a network of one channel was given."""
    origin = replace(way.last.origin, form="grey")
    known: dict[int, Step] = {}
    try:
        for one in chain(way.last):
            if one.kind == "input":
                known[id(one)] = first_step(origin)
                continue
            args = tuple(known.get(id(a), a) if isinstance(a, Step) else a for a in one.args)
            kwargs = {
                k: known.get(id(v), v) if isinstance(v, Step) else v for k, v in one.kwargs.items()
            }

            samples = tuple(
                perform(one.kind, one.name, at_sample(args, i), at_sample(kwargs, i))
                for i in range(2)
            )
            known[id(one)] = Step(
                one.kind, one.name, args, kwargs, one.place, samples, origin, one.random
            )
    except Exception:
        return None
    return Way(known[id(way.last)], way.flat, way.front)


def _front(way: Way, module: nn.Module, sized: InputSize) -> tuple[tuple[int, int] | None, str]:
    """To what images are resized first, where the steps leave them at their size."""
    native = way.last.origin.size
    if native is not None:
        name = getattr(way.last.origin.dataset, "last", "the data set")
        front = with_front(way, native)
        try:
            shape = front(drawn((70, 61))).shape
        except PreprocessError as error:
            return None, str(error)
        if runs(module, shape) or runs(module, (int(np.prod(shape)),)):
            return native, f"the size of {name}"
        if sized.low is None:
            return None, f"the network does not run on {name}'s images{_why_not(module, shape)}"
    if sized.side is None:
        return None, f"the size of images is not stated: {sized.reason}"
    return (sized.side, sized.side), f"from the network: {sized.reason}"


# Which of those that fit is meant


def _choose(uses: list[Use], lost: list[Trace]) -> tuple[Use, list[str]]:
    """The one that is meant, and what is to be said of it.

    Raises:
        PreprocessError: Several contradict one another.
    """
    doubts: list[str] = []
    pool = [use for use in uses if use.own] or uses
    plain = [use for use in pool if not use.way.last.random]
    if not plain:
        raise PreprocessError(
            f"every transform in the script is random, as for training: {_listed(pool)}; pass"
            " preprocess=..., the one of validation"
        )
    best = [use for use in plain if use.role in (INFERENCE, TEST)]
    if not best:
        order = [[use for use in plain if use.role == role] for role in _ORDER]
        best = next(group for group in order if group)
    groups = _groups(best)
    use = _most_specific(groups[0])
    if len(groups) > 1:
        inverted = _only_inverts(groups)
        if inverted is None:
            meant = [_most_specific(group) for group in groups]
            names = " or ".join(f'preprocess="{one.name}"' for one in meant)
            raise PreprocessError(
                "the script preprocesses images in ways that contradict one another:"
                f" {_listed(meant)}; pass the one that is meant: {names}"
            )
        use = inverted
    if lost and use.role != INFERENCE:
        reason = lost[0].image.reason  # type: ignore[union-attr]
        before = f"what the script does to an image before {lost[0].place} cannot be followed"
        if NOT_INSTALLED in reason:  # once it is, the way is known
            raise PreprocessError(f"{before}: {reason}, or pass preprocess=...")
        doubts.append(f"{before} ({reason}); taking {use.title} ({use.place}), which it tests with")
    if use.way.last.origin.kind == "camera":
        doubts.append(f"taking images for frames of the camera that the script reads ({use.place})")
    if use.way.last.origin.kind == "given" and use.way.last.origin.form == "array-bgr":
        doubts.append(
            f"assuming that images come in OpenCV's order, blue first, to {use.title} ({use.place})"
        )
    return use, doubts


def _groups(uses: list[Use]) -> list[list[Use]]:
    """Ways that do the same to images of the network's size, in the order of their first."""
    groups: list[list[Use]] = []
    for use in uses:
        for group in groups:
            if _agree(use, group[0]):
                group.append(use)
                break
        else:
            groups.append([use])
    return groups


def _agree(one: Use, other: Use, *, inverted: bool = False) -> bool:
    sizes = fixed_size(one.way), fixed_size(other.way)
    if None in sizes or sizes[0] != sizes[1]:
        return False
    size = sizes[0]
    assert size is not None
    is_grey = any(use.way.last.origin.form in ("grey", "batch-grey") for use in (one, other))
    for native in {size, one.way.last.origin.size or size, other.way.last.origin.size or size}:
        image = drawn(native)
        if is_grey:
            image = image.convert("L").convert("RGB")
        second = Image.eval(image, lambda v: 255 - v) if inverted else image
        try:
            left, right = one.way(image), other.way(second)
        except PreprocessError:
            return False
        scale = max(1.0, float(np.abs(right).max()))
        if left.shape != right.shape or np.abs(left - right).max() > 0.02 * scale:
            return False
    return True


def _only_inverts(groups: list[list[Use]]) -> Use | None:
    """The way of inference, where all others are the same on the negative."""
    inference = [group for group in groups if any(use.role == INFERENCE for use in group)]
    if len(inference) != 1:
        return None
    use = _most_specific([one for one in inference[0] if one.role == INFERENCE])
    others = [group[0] for group in groups if group is not inference[0]]
    return use if all(_agree(use, other, inverted=True) for other in others) else None


def _most_specific(uses: list[Use]) -> Use:
    """The one that says most of an image's size: what opens files before what tests."""
    return min(
        uses,
        key=lambda use: (
            use.way.front is not None,
            use.way.last.origin.size is not None,
            _ORDER.index(use.role),
        ),
    )


def _listed(uses: list[Use]) -> str:
    return "; ".join(dict.fromkeys(use.steps for use in uses))


def _nothing_found(
    uses: list[Use], misfits: list[tuple[Use, str]], lost: list[Trace], sized: InputSize
) -> str:
    advice = (
        f"{what_it_takes(sized)}; pass what its training did: another preset (`toplabel models"
        ' --preprocess` lists them), a JSON file, or preprocess="FILE.py:NAME"'
    )
    if lost:
        trace = lost[0]
        assert isinstance(trace.image, Unknown)
        return (
            f"the script's preprocessing before {trace.place} cannot be followed:"
            f" {trace.image.reason}; {advice}"
        )
    if misfits:
        use, problem = misfits[0]
        return f"found {use.steps} in the script, but {problem}; {advice}"
    return f"found no preprocessing in the script; {advice}"
