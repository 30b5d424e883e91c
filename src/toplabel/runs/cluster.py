"""The cluster: shards labelled by Ray Data's actors, wherever it has processors.

Actors send finished parts back, and this process alone writes them: nodes need no folder in common
for the output, and a run begun here can be finished there, and the other way round.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toplabel._internal.optional import require
from toplabel._internal.platform import available_cpus
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import open_packed, pack
from toplabel.errors import RunError
from toplabel.inference.batch import Settings
from toplabel.runs.commit import Finished
from toplabel.runs.entry import Entry
from toplabel.runs.formats import load_format
from toplabel.runs.labelling import label_shards
from toplabel.runs.manifest import Manifest, Shard
from toplabel.runs.shard_result import Mark
from toplabel.runs.subprocess_labeller import IsolatedLabeller
from toplabel.runs.worker_pool import THREADS_OF_PROCESS
from toplabel.runs.worker_spec import Job

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
ray: Any = require("ray", extra="ray", purpose="labelling on a cluster")
ray_data: Any = require("ray.data", extra="ray", purpose="labelling on a cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an actor is told once.

    Args:
        bundle: The packed model, as bytes.
        settings: What is wanted of every prediction.
        format: Of the parts.
        threads: Processors of each actor.
        batch_size: Images in one call of the engine; None: its usual number.
    """

    bundle: bytes
    settings: Settings
    format: str
    threads: int
    batch_size: int | None


class Shelf:
    """An actor beside the run that hands out the order, and the entries of each shard."""

    def __init__(self, order: Order, manifest: Manifest) -> None:
        self._order = order
        self._manifest = manifest

    def order(self) -> Order:
        """What every actor is told."""
        return self._order

    def read(self, number: int) -> tuple[Entry, ...]:
        """The entries of the shard of that number."""
        (shard,) = self._manifest.read_shards([number])
        return shard.entries


class ShardLabeller:
    """An actor that opens the model once and labels shard after shard."""

    def __init__(self, shelf: Any) -> None:
        self._shelf = shelf
        self._order = order = ray.get(shelf.order.remote())
        self._format = load_format(order.format)
        with tempfile.TemporaryDirectory(prefix="toplabel-") as folder:
            path = Path(folder, "model.toplabel")
            path.write_bytes(order.bundle)
            bundle = open_packed(path)  # its program goes into this node's cache
        job = Job.of(bundle, order.settings, threads=order.threads, batch_size=order.batch_size)
        self._labeller = IsolatedLabeller(job, notify=print)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The numbers of shards in; numbers, parts and marks out."""
        finished = [self._finish(int(number)) for number in batch["item"]]
        return {
            "number": np.array([one.shard.number for one in finished], np.int64),
            "part": np.array([one.part for one in finished], object),
            "mark": np.array([one.mark.to_bytes() for one in finished], object),
        }

    def _finish(self, number: int) -> Finished:
        shard = Shard(number, ray.get(self._shelf.read.remote(number)))
        ((_, outcomes),) = label_shards(self._labeller, [shard], _nobody)
        scores = self._order.settings.all_scores
        return Finished.of(shard, outcomes, self._format, all_scores=scores)


def _nobody(outcomes: object) -> None:
    """Nobody watches single images from afar."""


def finish_on_ray(
    bundle: Bundle,
    settings: Settings,
    manifest: Manifest,
    pending: Sequence[int],
    *,
    format: str,
    batch_size: int | None,
    notify: Callable[[str], None],
) -> Iterator[Finished]:
    """The shards of these numbers, finished, in the order in which they come.

    An actor that dies with its node costs the shards that it had: Ray gives them to another one.

    Args:
        bundle: The model.
        settings: What is wanted of every prediction.
        manifest: That of the run; it is read on this machine alone.
        pending: Numbers of shards, ascending.
        format: Of the parts.
        batch_size: Images in one call of the engine; None: its usual number.
        notify: Called with one line of text about the cluster.

    Raises:
        RunError: The cluster cannot be reached, or it gave up.
    """
    with _connected(notify), _packed(bundle) as content:
        threads, most = _plan()
        order = Order(
            bundle=content,
            settings=settings,
            format=format,
            threads=threads,
            batch_size=batch_size,
        )
        shelf = _open_shelf(order, manifest)
        rows = (
            ray_data.from_items(list(pending), override_num_blocks=len(pending))
            .map_batches(
                ShardLabeller,
                fn_constructor_args=(shelf,),
                batch_size=1,
                num_cpus=threads,
                compute=ray_data.ActorPoolStrategy(min_size=1, max_size=most),
            )
            .iter_rows()
        )
        try:
            for row in rows:
                number = int(row["number"])
                mark = Mark.from_bytes(row["mark"])
                assert mark is not None
                (shard,) = manifest.read_shards([number])
                yield Finished(shard, row["part"], mark)
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[-1]
            raise RunError(f"Ray gave up: {first}; what is done is kept") from error


@contextmanager
def _connected(notify: Callable[[str], None]) -> Iterator[None]:
    """A cluster: that of RAY_ADDRESS, one that runs on this machine, or a local one for this run.

    Raises:
        RunError: There is an address, and nobody answers.
    """
    ray_data.DataContext.get_current().enable_progress_bars = False  # the run has its own
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        _connect(address)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cpus = int(ray.cluster_resources().get("CPU", 0))
        notify(f"Ray at {address or 'this machine'}: {len(nodes)} nodes, {cpus} processors")
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            _knock(address)
            ray.init(address=address, **quiet)
            return
        with suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
        ray.init(
            num_cpus=available_cpus(),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",  # nobody else is meant to reach it
            **quiet,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(
            f"cannot reach the Ray cluster at {address or 'this machine'}: {error}; RAY_ADDRESS"
            " says where it is, without it one is started here"
        ) from error


def _knock(address: str) -> None:
    """Fail in seconds where nobody listens; Ray itself waits for minutes.

    Raises:
        OSError: There is no such host, or nobody listens there.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@contextmanager
def _packed(bundle: Bundle) -> Iterator[bytes]:
    """The model as one file's bytes, for nodes that share no folder with this machine."""
    with tempfile.TemporaryDirectory(prefix="toplabel-") as folder:
        path = Path(folder, "model.toplabel")
        pack(bundle, path)
        yield path.read_bytes()


def _plan() -> tuple[int, int]:
    """Processors of each actor, and how many actors there may be.

    Raises:
        RunError: No node has a processor.
    """
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    working = [cpus for cpus in nodes if cpus]
    if not working:
        raise RunError("the Ray cluster has no node with a processor; start one: ray start")
    threads = min(THREADS_OF_PROCESS, *working)
    return threads, sum(cpus // threads for cpus in working)


def _open_shelf(order: Order, manifest: Manifest) -> Any:
    """The shelf, on the node that this process is on, where the manifest's files are."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1}
    return ray.remote(Shelf).options(**options, max_task_retries=-1).remote(order, manifest)
