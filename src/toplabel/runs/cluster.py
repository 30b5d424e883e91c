"""The cluster: shards labelled by Ray Data's actors, on all its nodes.

Actors send finished parts back, and this process alone writes them: nodes need no shared folder for
the output, and a run begun on one machine can be finished on a cluster, and the other way round.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toplabel._internal.notices import collect_warnings, warn
from toplabel._internal.optional import require
from toplabel._internal.platform import available_cpus
from toplabel.bundle.bundle import Bundle
from toplabel.bundle.file import open_packed, pack
from toplabel.errors import RunError
from toplabel.inference.batch import PredictOptions
from toplabel.inference.engines import ProgramEngine
from toplabel.runs.entry import Entry
from toplabel.runs.formats import Columns, load_format
from toplabel.runs.labelling import label_shards
from toplabel.runs.manifest import Manifest, Shard
from toplabel.runs.shard_result import FinishedShard, ShardResult
from toplabel.runs.worker import WorkerSpec
from toplabel.runs.worker_pool import THREADS_OF_PROCESS, SubprocessLabeller

logger = logging.getLogger(__name__)

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
ray: Any = require("ray", extra="ray", purpose="labelling on a cluster")
ray_data: Any = require("ray.data", extra="ray", purpose="labelling on a cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorConfig:
    """What every labelling actor needs to know.

    Args:
        bundle: The packed model, as bytes.
        settings: Of every prediction.
        engine: What runs its program.
        format: Of the parts.
        columns: What records have beyond the columns of every run.
        threads: Processors of each actor.
        batch_size: Images in one call of the engine; None: the engine's default.
        noticed: What the outputs of the first images looked like, in earlier calls.
    """

    bundle: bytes
    settings: PredictOptions
    engine: ProgramEngine
    format: str
    columns: Columns
    threads: int
    batch_size: int | None
    noticed: tuple[str, ...] = ()


class ShardActor:
    """An actor beside the run that hands out the config, and the entries of each shard."""

    def __init__(self, config: ActorConfig, manifest: Manifest) -> None:
        self._config = config
        self._manifest = manifest

    def config(self) -> ActorConfig:
        """What every labelling actor needs to know."""
        return self._config

    def read(self, number: int) -> tuple[Entry, ...]:
        """The entries of the shard of that number."""
        (shard,) = self._manifest.read_shards([number])
        return shard.entries


class ShardLabeller:
    """An actor that opens the model once and labels shard after shard."""

    def __init__(self, shards: Any) -> None:
        self._shards = shards
        self._config = config = ray.get(shards.config.remote())
        self._format = load_format(config.format)
        with tempfile.TemporaryDirectory(prefix="toplabel-") as folder:
            path = Path(folder, "model.toplabel")
            path.write_bytes(config.bundle)
            bundle = open_packed(path)  # its program goes into this node's cache
        spec = WorkerSpec(
            bundle=bundle,
            settings=config.settings,
            engine=config.engine,
            threads=config.threads,
            batch_size=config.batch_size,
        )
        self._labeller = SubprocessLabeller([spec])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Numbers of shards in; numbers, parts, results and warnings out."""
        with collect_warnings() as notices:
            finished = [self._finish(int(number)) for number in batch["item"]]
        told = [(notice, notice.about) for notice in notices]
        return {
            "number": np.array([one.shard.number for one in finished], np.int64),
            "part": np.array([one.part for one in finished], object),
            "result": np.array([one.result.to_bytes() for one in finished], object),
            "warnings": np.array([json.dumps(told)] * len(finished), object),
        }

    def _finish(self, number: int) -> FinishedShard:
        shard = Shard(number, ray.get(self._shards.read.remote(number)))
        ((_, outcomes),) = label_shards(
            self._labeller, [shard], lambda outcomes: None, noticed=self._config.noticed
        )
        return FinishedShard.of(shard, outcomes, self._format, self._config.columns)


def finish_on_ray(
    bundle: Bundle,
    settings: PredictOptions,
    manifest: Manifest,
    pending: Sequence[int],
    *,
    engine: ProgramEngine,
    format: str,
    columns: Columns,
    batch_size: int | None,
    noticed: tuple[str, ...] = (),
) -> Iterator[FinishedShard]:
    """The shards of these numbers, finished, as they come.

    An actor that dies with its node costs the shards that it had: Ray gives them to another.

    Args:
        bundle: The model.
        settings: Of every prediction.
        manifest: Of the run; it is read on this machine alone.
        pending: Numbers of shards, ascending.
        engine: What runs the model's program.
        format: Of the parts.
        columns: What records have beyond the columns of every run.
        batch_size: Images in one call of the engine; None: the engine's default.
        noticed: What the outputs of the first images looked like, in earlier calls.

    Raises:
        RunError: The cluster cannot be reached, or it failed.
    """
    with _connected():
        threads, most = _plan()
        config = ActorConfig(
            bundle=_pack(bundle),
            settings=settings,
            engine=engine,
            format=format,
            columns=columns,
            threads=threads,
            batch_size=batch_size,
            noticed=noticed,
        )
        shards = _start_shard_actor(config, manifest)
        rows = (
            ray_data.from_items(list(pending), override_num_blocks=len(pending))
            .map_batches(
                ShardLabeller,
                fn_constructor_args=(shards,),
                batch_size=1,
                num_cpus=threads,
                compute=ray_data.ActorPoolStrategy(min_size=1, max_size=most),
            )
            .iter_rows()
        )
        try:
            for row in rows:
                number = int(row["number"])
                result = ShardResult.from_bytes(row["result"])
                assert result is not None
                for text, about in json.loads(row["warnings"]):
                    warn(text, about=about)
                (shard,) = manifest.read_shards([number])
                yield FinishedShard(shard, row["part"], result)
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[-1]
            raise RunError(f"Ray failed: {first}; finished parts are kept") from error


@contextmanager
def _connected() -> Iterator[None]:
    """A cluster: that of RAY_ADDRESS, one that runs on this machine, or a local one for this run.

    Raises:
        RunError: There is an address, and no cluster at it.
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
        where = address or "this machine"
        logger.info("Ray at %s: %d nodes, %d processors", where, len(nodes), cpus)
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            _check_port(address)
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
            f"cannot reach the Ray cluster at {address or 'this machine'}: {error}; set"
            " RAY_ADDRESS to its address, or unset it to start one on this machine"
        ) from error


def _check_port(address: str) -> None:
    """Fail in seconds where nothing listens; Ray itself waits for minutes.

    Raises:
        OSError: There is no such host, or nothing listens there.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _pack(bundle: Bundle) -> bytes:
    """The model as one file's bytes, for nodes that share no folder with this machine."""
    with tempfile.TemporaryDirectory(prefix="toplabel-") as folder:
        path = Path(folder, "model.toplabel")
        pack(bundle, path)
        return path.read_bytes()


def _plan() -> tuple[int, int]:
    """Processors of each actor, and how many actors there may be.

    Raises:
        RunError: No node has a processor.
    """
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    working = [cpus for cpus in nodes if cpus]
    if not working:
        raise RunError("the Ray cluster has no node with a processor; start one with `ray start`")
    threads = min(THREADS_OF_PROCESS, *working)
    return threads, sum(cpus // threads for cpus in working)


def _start_shard_actor(config: ActorConfig, manifest: Manifest) -> Any:
    """The shard actor, on the node that this process is on, where the manifest's files are."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1}
    actor = ray.remote(ShardActor).options(**options, max_task_retries=-1)
    return actor.remote(config, manifest)
