"""The server: what to serve and how in, a process that answers until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import uvicorn

from toplabel._internal.platform import available_cpus
from toplabel.errors import ToplabelError
from toplabel.serve.lifecycle import Lifecycle
from toplabel.serve.limits import Limits
from toplabel.serve.listening import BACKLOG, allow_descriptors, listen, stop_listening
from toplabel.serve.metrics import Metrics
from toplabel.serve.middleware import Edge, EdgeSettings
from toplabel.serve.page import PATHS
from toplabel.serve.protocol import guarded
from toplabel.serve.work import Workers

if TYPE_CHECKING:
    from toplabel.image.options import ReadOptions
    from toplabel.serve.models import ServedModel
    from toplabel.serve.remote import Remote
    from toplabel.serve.service import Service

Load = Callable[[str | None], Any]
"""A model's name in, its predictor out."""

OPEN_PATHS = frozenset(
    (*PATHS, "/docs", "/docs.css", "/openapi.json")
    + ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
)
"""What is answered without a token: nothing of it says what a picture is."""

CUT_OFF = 1
"""The exit status where something accepted was not finished in time."""

_SETTLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What to serve, and how.

    Args:
        models: As the command line takes them: "cats=./best.toplabel", "resnet50"; none: the
            embedded one.
        load: Opens a model.
        host: The address to listen at.
        port: 0 takes a free one.
        threads: Images worked on at once; None: one for each processor of this process.
        batching: Put concurrent requests into one call of the engine; None: where it helps.
        batch_size: Most images of such a call; None: 8 on a CPU, 64 on a GPU.
        read: Limits and choices in reading pictures.
        limits: What clients may do.
        token: What requests must carry, or None.
        url_hosts: Hosts that pictures may be fetched from.
        lame_duck_seconds: How long a server that was told to stop goes on accepting, while it
            says that it is not ready, so that nobody is sent here any more.
        tell: Called with a line for people: where it listens.
    """

    models: Sequence[str] = ()
    load: Load
    host: str = "127.0.0.1"
    port: int = 8000
    threads: int | None = None
    batching: bool | None = None
    batch_size: int | None = None
    read: ReadOptions
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    url_hosts: Sequence[str] = ()
    lame_duck_seconds: float = 1.0
    tell: Callable[[str], None]


def serve(serving: Serving) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status is 0 where all that was accepted is done.

    Raises:
        UsageError: The address cannot be had.
        ToplabelError: A model cannot be loaded.
    """
    listener = listen(serving.host, serving.port)
    allow_descriptors(serving.limits.connections)
    gc.disable()  # while everything is imported: nothing of it is garbage
    try:
        return asyncio.run(_Running(serving, listener).run())
    finally:
        gc.enable()
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals are handled here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Running:
    """One server from its start to its end."""

    def __init__(self, serving: Serving, listener: socket.socket) -> None:
        self._serving = serving
        self._listener = listener
        self._lifecycle = Lifecycle()
        self._metrics = Metrics()
        cpus = available_cpus()
        self._cpus = serving.threads or cpus
        self._workers = Workers(self._cpus, capacity=serving.limits.queued)
        settings = EdgeSettings(limits=serving.limits, token=serving.token, open_paths=OPEN_PATHS)
        self._edge = Edge(
            settings, lifecycle=self._lifecycle, workers=self._workers, metrics=self._metrics
        )
        self._server = _Server(self._config())
        self._error: BaseException | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        threading.Thread(target=self._prepare, args=(loop,), daemon=True).start()
        await self._server.serve(sockets=[self._listener])
        self._workers.close()
        if self._error is not None:
            raise self._error
        return CUT_OFF if self._server.server_state.tasks else 0

    def _config(self) -> uvicorn.Config:
        limits = self._serving.limits
        count = self._metrics.refused
        return uvicorn.Config(
            self._edge,
            http=guarded(limits, lambda reason: count.labels(reason).inc()),
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=limits.drain_seconds,  # type: ignore[arg-type]
        )

    def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: load the models and make the application, then open the door."""
        try:
            importing = threading.Thread(target=_import_application, daemon=True)
            importing.start()  # 0.5 s, most of it while the models are read
            models = self._load()
            importing.join()
            from toplabel.serve.app import create_app

            app = create_app(self._service(models))
        except BaseException as error:
            self._error = error
            loop.call_soon_threadsafe(self._give_up)
            return
        loop.call_soon_threadsafe(self._open, app)

    def _load(self) -> list[ServedModel]:
        from toplabel.serve.models import GPU_BATCH, serve_model, split_alias

        served = []
        for given in self._serving.models or (None,):
            alias, name = (None, None) if given is None else split_alias(given)
            try:
                predictor = self._serving.load(name)
                model = serve_model(
                    name,
                    predictor,
                    read=self._serving.read,
                    threads=self._cpus,
                    batching=self._serving.batching,
                    batch_size=self._serving.batch_size,
                    observe=self._metrics.observe_batch,
                )
            except ToplabelError as error:
                raise type(error)(f"{given or 'the embedded model'}: {error}") from error
            served.append(model if alias is None else replace(model, name=alias))
        if any(model.engine.device != "cpu" for model in served):
            # Most threads then wait with a prepared picture for the next batch of the device.
            self._workers.grow(self._cpus + (self._serving.batch_size or GPU_BATCH))
        return served

    def _service(self, models: list[ServedModel]) -> Service:
        from toplabel.serve.labelling import Labelling
        from toplabel.serve.models import ServedModels
        from toplabel.serve.request_body import Bodies
        from toplabel.serve.service import Service

        limits = self._serving.limits
        bodies = Bodies(limits)
        watch = self._metrics.watch
        watch("queue_depth", "Images that wait for a worker.", lambda: self._workers.depth)
        watch("held_bytes", "Bytes of requests' bodies held.", lambda: bodies.held_bytes)
        connections = self._server.server_state.connections
        watch("connections", "Open connections.", lambda: len(connections))
        hosts = self._serving.url_hosts
        return Service(
            models=ServedModels(models),
            bodies=bodies,
            labelling=Labelling(self._workers, limits, self._metrics),
            limits=limits,
            lifecycle=self._lifecycle,
            metrics=self._metrics,
            remote=_remote(hosts, limits, self._serving.read) if hosts else None,
        )

    def _open(self, app: Any) -> None:
        self._edge.app = app
        gc.collect()
        gc.freeze()  # what there is now stays: no later collection looks at it again
        gc.enable()
        if self._lifecycle.state == "starting":
            self._lifecycle.state = "ready"
        host, port = self._listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self._serving.tell(f"ready at http://{shown}:{port}")

    def _give_up(self) -> None:
        self._lifecycle.state = "draining"
        self._server.should_exit = True

    def _stop(self, number: int) -> None:
        """The first signal lets the server finish, the second ends it."""
        if self._stopping is not None:
            os._exit(128 + number)
        wait = self._serving.lame_duck_seconds if number == signal.SIGTERM else 0.0
        self._lifecycle.state = "draining"
        self._stopping = asyncio.ensure_future(self._drain(wait))

    async def _drain(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        stop_listening(self._listener)
        await asyncio.sleep(_SETTLE_SECONDS)
        self._server.should_exit = True


def _import_application() -> None:
    import toplabel.serve.app  # noqa: F401


def _remote(hosts: Sequence[str], limits: Limits, read: ReadOptions) -> Remote:
    from toplabel.serve.remote import Remote  # only where it is asked for

    return Remote(hosts, max_bytes=limits.body_bytes, timeout_seconds=read.timeout_seconds)
