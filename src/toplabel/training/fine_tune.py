"""A network with a fitted head, and photos, in; all of it trained, where that is better, out.

Linear probe, then all of the network (LP-FT; Kumar et al. 2022): it begins from a head that was
fitted to frozen features, so that the first steps do not spoil what the network knows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from toplabel._internal.platform import available_cpus
from toplabel._internal.text import first_line
from toplabel.analysis.temperature import mean_log_loss
from toplabel.errors import EngineError, ToplabelError
from toplabel.inference.engines.torch import find_device, is_out_of_memory
from toplabel.training.fine_tune_progress import ProgressFile, duration
from toplabel.training.out_of_fold import temperature_of
from toplabel.training.torch_network import HeadedNetwork, parameter_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.training.torch_data import Photos

EPOCHS = 10
LEARNING_RATE = 3e-4
"""Of the head; the first layers have a tenth of it."""

BATCH_SIZE = 32
_PATIENCE = 3
"""Epochs without a better one, after which it ends."""

_WARM_UP = 0.1  # of all steps
_LAST_RATE = 0.01  # of the highest
_SMOOTHING = 0.1
_WEIGHT_DECAY = 0.05
_LONGEST_GRADIENT = 1.0
_MOST_AVERAGED = 0.999
"""Of the weights' exponential moving average; less in the first steps, so that it keeps up."""

_MEASURED_STEPS = 5
"""After so many it is known how long the rest takes."""

_SAY_SECONDS = 30.0
_LONG = 60.0
"""Seconds on a CPU that are worth a warning."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """How a network is trained.

    Args:
        epochs: At most.
        learning_rate: The head's, at its highest.
        minutes: To take at most; None: as long as it takes.
        device: "auto" is a CUDA device where there is one.
        seed: Of all that is drawn.
    """

    epochs: int = EPOCHS
    learning_rate: float = LEARNING_RATE
    minutes: float | None = None
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Which photos a network learns from, and which decide when to stop.

    Args:
        learned: Numbers of the first.
        held_out: Numbers of the others, M of them.
        halves: bool (M,): two halves of these; the accuracy of either is that of the epoch which
            the other one chooses.
        log_prior: (K,), what the prior that is asked for adds to calibrated logits; None: nothing.
    """

    learned: Sequence[int]
    held_out: Sequence[int]
    halves: NDArray[np.bool_]
    log_prior: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuned:
    """What came of it.

    Args:
        network: The better one, in eval mode, on the CPU: after `epoch`, or as it was given.
        epoch: From 1; 0 where no epoch was better than the frozen head on the held-out photos.
        epochs: How many there were.
        accuracy: Of the chosen epoch on the held-out photos, which chose it; in [0, 1].
        frozen_accuracy: Of the frozen head on the same photos.
        logits: float32 (M, K) of the held-out photos: of either half by the epoch that the other
            half chooses, so that no photo has chosen what it is predicted by.
        seconds: That training took, interruptions apart.
        device: That it ran on.
    """

    network: HeadedNetwork
    epoch: int
    epochs: int
    accuracy: float
    frozen_accuracy: float
    logits: NDArray[np.float32]
    seconds: float
    device: str


def fine_tune(
    headed: HeadedNetwork,
    photos: Photos,
    parts: Parts,
    settings: FineTuneSettings,
    *,
    progress: Path,
) -> FineTuned:
    """Train all of a network, from its frozen head on.

    Args:
        headed: In eval mode, on the CPU; it is changed.
        photos: All of them.
        parts: Which are which.
        settings: How.
        progress: Where to keep what is done, so that a start after a kill goes on there. Removed in
            the end.

    Raises:
        EngineError: The device is not to be had, PyTorch fails, or memory has no room for one photo
            at a time.
        ImageError: A photo can no longer be read.
    """
    device = _device(settings.device)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(available_cpus())
        try:
            training = _Training(headed, photos, parts, settings, device, ProgressFile(progress))
            training.resume()
            training.run()
            return training.result()
        except (ToplabelError, MemoryError):
            raise
        except RuntimeError as error:
            raise EngineError(f"fine-tuning failed in torch: {first_line(error)}") from error
        finally:
            torch.set_num_threads(threads)


def _device(name: str) -> torch.device:
    return find_device("cuda" if name == "auto" and torch.cuda.is_available() else name)


class _Training:
    """A network on its way.

    All that is drawn follows from the seed and the number of the step, so that what is resumed
    ends as if nothing had happened.
    """

    def __init__(
        self,
        headed: HeadedNetwork,
        photos: Photos,
        parts: Parts,
        settings: FineTuneSettings,
        device: torch.device,
        file: ProgressFile,
    ) -> None:
        self._photos, self._parts, self._settings = photos, parts, settings
        self._device, self._file = device, file
        self._steps = math.ceil(len(parts.learned) / BATCH_SIZE)  # in an epoch
        self._planned = settings.epochs
        self._frozen = _copied(headed.state_dict())
        groups = parameter_groups(
            headed, photos.example, rate=settings.learning_rate, decay=_WEIGHT_DECAY
        )
        self._layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self._model = _to_layout(headed.to(device), self._layout)
        self._optimizer = torch.optim.AdamW(groups)
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: self._rate(step)
        )
        self._average = AveragedModel(headed, multi_avg_fn=_average)
        self._average.eval()
        self._loss = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING, reduction="sum")
        self._epoch, self._step = 1, 0
        self._at_once = BATCH_SIZE
        self._best = self._frozen
        self._among = (np.ones(len(parts.held_out), np.bool_), parts.halves, ~parts.halves)
        self._qualities: list[list[tuple[float, float]]] = []  # among each, the frozen head's first
        self._logits: dict[int, torch.Tensor] = {}  # (M, K) of epochs that may be chosen
        self._spent = 0.0  # seconds, before this process
        self._started = monotonic()
        self._step_seconds: list[float] = []
        self._asking_seconds = 0.0
        self._said = monotonic()

    def run(self) -> None:
        """Train until there is no more to gain."""
        if not self._qualities:
            self._judge(self._ask())
            self._say_frozen()
        while self._epoch <= self._planned and not self._is_over():
            self._run_epoch()
            self._judge(self._ask())
            if self._choose() == self._epoch:
                self._best = _copied(self._average.module.state_dict())
            self._say_epoch()
            self._epoch, self._step = self._epoch + 1, 0
            self._file.save(self._state())

    def result(self) -> FineTuned:
        """What came of it."""
        chosen = self._choose()
        network = _to_layout(self._model.cpu(), torch.contiguous_format)
        network.load_state_dict(self._best if chosen else self._frozen)
        self._file.remove()
        return FineTuned(
            network=network.eval(),
            epoch=chosen,
            epochs=len(self._qualities) - 1,
            accuracy=self._accuracy(chosen),
            frozen_accuracy=self._accuracy(0),
            logits=self._honest_logits(),
            seconds=self._seconds,
            device=str(self._device),
        )

    # Learning

    def _run_epoch(self) -> None:
        batches = self._photos.augmented_batches(
            self._parts.learned, size=BATCH_SIZE, epoch=self._epoch, first=self._step
        )
        before = monotonic()
        for inputs, targets in batches:
            self._learn(inputs, targets)
            self._step += 1
            now = monotonic()
            self._step_seconds.append(now - before)
            self._plan()
            self._say_now_and_then()
            self._file.save_now_and_then(self._state)
            before = monotonic()

    def _learn(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """A step of the optimiser; where memory has no room for the batch, in smaller parts."""
        self._model.train()
        while True:
            try:
                loss = self._gradients(inputs, targets)
                break
            except (RuntimeError, MemoryError) as error:
                self._check_memory(error)
            self._halve()
        if math.isfinite(loss):
            nn.utils.clip_grad_norm_(self._model.parameters(), _LONGEST_GRADIENT)
            self._optimizer.step()
            self._average.update_parameters(self._model)
        self._scheduler.step()

    def _gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        """The mean loss of a batch, whose gradients are left in the network."""
        seed = self._settings.seed * 1_000_003 + self._epoch * 10_007 + self._step
        torch.manual_seed(seed)  # of dropout
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(inputs), self._at_once):
            part = slice(start, start + self._at_once)
            with self._precision():
                logits = self._model(self._placed(inputs[part]))
                loss = self._loss(logits.float(), targets[part].to(self._device)) / len(inputs)
            loss.backward()
            total += float(loss.detach())
        return total

    def _ask(self) -> torch.Tensor:
        """Logits of the held-out photos, float32 (M, K), by the averaged weights."""
        before = monotonic()
        found: list[torch.Tensor] = []
        batches = self._photos.batches(self._parts.held_out, size=BATCH_SIZE)
        for inputs, _ in batches:
            with torch.no_grad(), self._precision():
                found.append(self._answer(inputs))
        self._asking_seconds = monotonic() - before
        return torch.cat(found)

    def _answer(self, inputs: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                parts = torch.split(inputs, self._at_once)
                answers = [self._average.module(self._placed(part)) for part in parts]
                return torch.cat([one.float().cpu() for one in answers])
            except (RuntimeError, MemoryError) as error:
                self._check_memory(error)
            self._halve()

    def _check_memory(self, error: Exception) -> None:
        """Raise again what is no want of memory, or cannot be helped."""
        if not is_out_of_memory(error):
            raise error
        if self._at_once == 1:
            raise EngineError(
                f"there is no room to train on one photo at a time on {self._device}; close what"
                ' else uses its memory, take a smaller model, or device="cpu"'
            ) from error

    def _halve(self) -> None:
        """Fewer photos go through the network at once from now on."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._at_once //= 2
        logger.info(
            "out of memory on %s: photos go through the network %d at a time, %d still make a step",
            self._device,
            self._at_once,
            BATCH_SIZE,
        )

    def _placed(self, inputs: torch.Tensor) -> torch.Tensor:
        placed = inputs.to(self._device, non_blocking=True)
        return placed.contiguous(memory_format=self._layout)

    def _precision(self) -> AbstractContextManager[Any]:
        if self._device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)

    def _rate(self, step: int) -> float:
        """The share of the highest learning rate: up in a line, then down along a cosine."""
        total = self._planned * self._steps
        warm = max(1, round(_WARM_UP * total))
        if step < warm:
            return (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1, total - warm))
        return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2

    # Choosing

    def _judge(self, logits: torch.Tensor) -> None:
        """Note how good an epoch is, and keep no more logits than may be needed."""
        self._logits[len(self._qualities)] = logits
        self._qualities.append([self._quality(logits, among) for among in self._among])
        needed = {0, *map(self._choose, range(len(self._among)))}
        self._logits = {epoch: self._logits[epoch] for epoch in needed}

    def _choose(self, among: int = 0) -> int:
        """The best epoch by all held-out photos, or by the first or second half (1, 2).

        It is the frozen head, 0, where none predicts more of them right.
        """
        qualities = [epoch[among] for epoch in self._qualities]
        best = max(range(len(qualities)), key=lambda epoch: qualities[epoch])
        return best if qualities[best][0] > qualities[0][0] else 0

    def _quality(self, logits: torch.Tensor, among: NDArray[np.bool_]) -> tuple[float, float]:
        """Accuracy with the prior that is asked for, and for equals the mean log likelihood."""
        scores = logits.numpy()[among]
        targets = self._photos.targets[self._parts.held_out][among]
        if not len(targets):
            return 0.0, 0.0
        if self._parts.log_prior is not None:
            calibrated = scores / np.float32(temperature_of(scores, targets))
            scores = calibrated + self._parts.log_prior
        right = float((scores.argmax(axis=1) == targets).mean())
        return right, -mean_log_loss(scores, targets, temperature=1.0)

    def _accuracy(self, epoch: int) -> float:
        return self._qualities[epoch][0][0]

    def _honest_logits(self) -> NDArray[np.float32]:
        found = torch.empty_like(self._logits[0])
        for half, other in ((1, 2), (2, 1)):
            rows = torch.from_numpy(self._among[half])
            found[rows] = self._logits[self._choose(other)][rows]
        return found.numpy()

    def _is_over(self) -> bool:
        """Whether the held-out photos, or the time, leave nothing to gain."""
        qualities = [epoch[0] for epoch in self._qualities]
        trained = range(1, len(qualities))
        best = max(trained, key=lambda epoch: qualities[epoch], default=0)
        return (
            max(qualities)[0] == 1.0
            or len(qualities) - 1 - best >= _PATIENCE
            or self._seconds_left <= 0
        )

    # Time

    @property
    def _seconds(self) -> float:
        return self._spent + monotonic() - self._started

    @property
    def _seconds_left(self) -> float:
        minutes = self._settings.minutes
        return math.inf if minutes is None else minutes * 60 - self._seconds

    @property
    def _seconds_to_go(self) -> float:
        """How long the planned epochs will still take, by the steps so far; 0 before the first."""
        if not self._step_seconds:
            return 0.0
        epochs = self._planned - self._epoch
        steps = (epochs + 1) * self._steps - self._step
        asking = self._asking_seconds * (epochs + (self._step < self._steps))
        return float(np.median(self._step_seconds)) * steps + asking

    def _plan(self) -> None:
        """After the first steps: say how long it takes, and plan no more epochs than time has."""
        if len(self._step_seconds) != min(_MEASURED_STEPS, self._steps):
            return
        an_epoch = float(np.median(self._step_seconds)) * self._steps + self._asking_seconds
        if math.isfinite(self._seconds_left):
            fitting = max(1, int(self._seconds_left / an_epoch))
            self._planned = min(self._planned, self._epoch - 1 + fitting)
        if self._device.type == "cpu" and self._seconds_to_go > _LONG:
            logger.warning(
                "fine-tuning on the CPU takes about %s (at most %d epochs of %s); epochs=... or"
                " minutes=... make it shorter, a GPU much faster; stopped, it goes on there when"
                " the same is started again",
                duration(self._seconds_to_go),
                self._planned,
                duration(an_epoch),
            )

    def _say_now_and_then(self) -> None:
        if monotonic() - self._said < _SAY_SECONDS or self._step == self._steps:
            return
        self._said = monotonic()
        logger.info(
            "epoch %d of %d, %d %%: at most %s left",
            self._epoch,
            self._planned,
            100 * self._step // self._steps,
            duration(self._seconds_to_go),
        )

    def _say_frozen(self) -> None:
        logger.info(
            "fine-tuning on %s: %d photos to learn from, %d held out, of which the frozen head"
            " predicts %.1f %% right",
            self._device,
            len(self._parts.learned),
            len(self._parts.held_out),
            100 * self._accuracy(0),
        )

    def _say_epoch(self) -> None:
        self._said = monotonic()
        left = self._epoch < self._planned
        logger.info(
            "epoch %d of %d: %.1f %% of the held-out photos right%s",
            self._epoch,
            self._planned,
            100 * self._accuracy(self._epoch),
            f"; at most {duration(self._seconds_to_go)} left" if left else "",
        )

    # Going on after a stop

    def _state(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "best": self._best,
            "logits": self._logits,
            "qualities": self._qualities,
            "place": [self._epoch, self._step, self._planned, self._at_once],
            "seconds": self._seconds,
        }

    def resume(self) -> None:
        """Go on where an earlier start was stopped, if it was."""
        found = self._file.load()
        if found is None:
            return
        self._model.load_state_dict(found["model"])
        self._average.load_state_dict(found["average"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._scheduler.load_state_dict(found["scheduler"])
        self._best, self._logits = found["best"], found["logits"]
        self._qualities = found["qualities"]
        self._epoch, self._step, self._planned, self._at_once = found["place"]
        self._spent = found["seconds"]
        logger.info("resuming fine-tuning in epoch %d", self._epoch)


def _to_layout(network: HeadedNetwork, layout: torch.memory_format) -> HeadedNetwork:
    placed: HeadedNetwork = network.to(memory_format=layout)  # type: ignore[call-overload]
    return placed


def _copied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _average(
    averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: torch.Tensor | int
) -> None:
    """The exponential moving average, whose first weights count for little."""
    decay = min(_MOST_AVERAGED, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_([*averaged], [*current], 1 - decay)
