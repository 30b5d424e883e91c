"""The server: what to serve and how in, a process that answers until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import uvicorn

from toplabel._internal.notices import warn
from toplabel._internal.platform import available_cpus, on_signals, return_memory, trim_memory
from toplabel.errors import ToplabelError, UsageError
from toplabel.image.decoded_image import USUAL_BYTES
from toplabel.serve.connection import MAX_HEAD_BYTES, Connections
from toplabel.serve.gate import Gate
from toplabel.serve.metrics import Metrics
from toplabel.serve.middleware import Middleware
from toplabel.serve.page import PATHS
from toplabel.serve.work import Workers

if TYPE_CHECKING:
    from toplabel.image.options import ReadOptions
    from toplabel.serve.decoders import Decoders
    from toplabel.serve.models import ServedModel
    from toplabel.serve.options import ServeOptions
    from toplabel.serve.service import Service

logger = logging.getLogger("toplabel")
"""A line for people: requests and defects are logged as JSON, by `toplabel.serve`."""

Load = Callable[[str | None], Any]
"""A model's name in, its predictor out."""

OPEN_PATHS = frozenset(
    (*PATHS, "/docs", "/docs.css", "/docs.js", "/openapi.json")
    + ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
)
"""What is answered without a token: nothing of it shows what an image is."""

CUT_OFF = 1
"""The exit status where something accepted was not finished in time."""

BACKLOG = 2048

_COLLECT_AFTER = (700, 10, 10)
"""Python's own. What a failed request leaves holds its body until then."""

_BATCHING = {"auto": None, "on": True, "off": False}
_OTHER_DESCRIPTORS = 256  # models, libraries, URLs that are fetched
_LARGE_BLOCK = 4 * 2**20
_TRIM_SECONDS = 10
_DECODING_SECONDS = 5  # of processor time for one image
_DECODER_BYTES = 192 * 2**20  # a process without an image, and some room
_LAST_CHANCE_SECONDS = 0.5


def serve(
    models: Sequence[str],
    *,
    load: Load,
    options: ServeOptions,
    read: ReadOptions,
    threads: int | None = None,
    batch_size: int | None = None,
) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status is 0 where all that was accepted is done.

    Args:
        models: As the command line takes them: "cats=./best.toplabel", "resnet50"; none: the
            built-in one.
        load: Opens a model.
        options: Where to serve, and what clients may do.
        read: Limits and choices in reading images.
        threads: Images processed at once; None: one for each processor of this process.
        batch_size: Most images in one call of the engine; None: 8 on a CPU, 64 on a GPU.

    Raises:
        UsageError: The address cannot be had, or the token is none.
        ToplabelError: A model cannot be loaded.
    """
    token = options.read_token()
    if token is None and not options.is_local:
        warn(
            f"anybody who can reach {options.host} may use this server; require a token with"
            " --token-file, or listen on 127.0.0.1"
        )
    listener = listen(options.host, options.port)
    options = replace(options, max_connections=_allow_descriptors(options.max_connections))
    return_memory(_LARGE_BLOCK)
    gc.disable()  # while everything is imported: nothing of it is garbage
    try:
        running = _Running(listener, options, token, read, threads or available_cpus(), batch_size)
        return asyncio.run(running.run(models or (None,), load))
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

    def __init__(
        self,
        listener: socket.socket,
        options: ServeOptions,
        token: str | None,
        read: ReadOptions,
        threads: int,
        batch_size: int | None,
    ) -> None:
        self._listener = listener
        self._options = options
        self._read = read
        self._threads = threads
        self._batch_size = batch_size
        self._metrics = Metrics()
        self._workers = Workers(threads, capacity=options.capacity)
        self._middleware = Middleware(
            options,
            gate=Gate(options, token=token, open_paths=OPEN_PATHS),
            workers=self._workers,
            metrics=self._metrics,
        )
        config = self._config()
        config.load()  # resolves http="h11"
        self._connections = Connections(
            config.http_protocol_class,
            options,
            lambda reason: self._metrics.refused.labels(reason).inc(),
        )
        config.http_protocol_class = self._connections  # type: ignore[assignment]
        self._server = _Server(config)
        self._decoders: Decoders | None = None
        self._error: BaseException | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, models: Sequence[str | None], load: Load) -> int:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        on_signals(loop, self._stop)
        threading.Thread(target=self._prepare, args=(models, load, loop), daemon=True).start()
        trimming = asyncio.create_task(_trim_now_and_then())
        await self._server.serve(sockets=[self._listener])
        trimming.cancel()
        self._workers.close()
        if self._decoders is not None:
            self._decoders.close()
        if self._error is not None:
            raise self._error
        return CUT_OFF if self._server.server_state.tasks else 0

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._middleware,
            http="h11",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=self._options.keep_alive,  # type: ignore[arg-type]
            timeout_graceful_shutdown=self._options.drain_timeout,  # type: ignore[arg-type]
        )

    def _prepare(
        self, names: Sequence[str | None], load: Load, loop: asyncio.AbstractEventLoop
    ) -> None:
        """In a thread: load the models and make the application, then open the door."""
        try:
            importing = threading.Thread(target=_import_application, daemon=True)
            importing.start()  # 0.5 s, most of it while the models are read
            models = [self._load(name, load) for name in names]
            from toplabel.serve.models import GPU_BATCH

            if any(model.engine.device != "cpu" for model in models):
                # Most threads then wait with a prepared image for the next batch of the device.
                self._workers.grow(self._threads + (self._batch_size or GPU_BATCH))
            importing.join()
            from toplabel.serve.app import create_app

            app = create_app(self._service(models))
        except BaseException as error:
            self._error = error
            loop.call_soon_threadsafe(self._give_up)
            return
        loop.call_soon_threadsafe(self._open, app)

    def _load(self, given: str | None, load: Load) -> ServedModel:
        from toplabel.serve.models import serve_model, split_alias

        alias, name = (None, None) if given is None else split_alias(given)
        try:
            model = serve_model(
                name,
                load(name),
                read=self._read,
                threads=self._threads,
                batching=_BATCHING[self._options.batching],
                batch_size=self._batch_size,
                observe=self._metrics.batch_images.observe,
            )
        except ToplabelError as error:
            raise type(error)(f"{given or 'the built-in model'}: {error}") from error
        model = model if alias is None else replace(model, name=alias)
        if (detector := model.predictor.classifier.unknown) is None:
            return model
        from toplabel.serve.drift import LastHour

        last_hour = LastHour(model.name, detector)
        last_hour.watch(self._metrics)
        return replace(model, last_hour=last_hour)

    def _service(self, models: list[ServedModel]) -> Service:
        from toplabel.serve.models import ServedModels
        from toplabel.serve.request_body import BodyReader
        from toplabel.serve.service import Service
        from toplabel.serve.work import Labeller

        options, watch = self._options, self._metrics.watch
        remote = None
        if options.url_hosts:
            from toplabel.serve.remote import Remote

            seconds = self._read.timeout_seconds
            remote = Remote(options.url_hosts, max_bytes=options.max_body, timeout_seconds=seconds)
        bodies = BodyReader(options)
        watch("queue_depth", "Images that wait for a worker.", lambda: self._workers.depth)
        watch("held_bytes", "Bytes of requests' bodies held.", lambda: bodies.held_bytes)
        watch("connections", "Open connections.", lambda: len(self._connections.open))
        return Service(
            models=ServedModels(models),
            bodies=bodies,
            labeller=Labeller(self._workers, options, self._metrics, self._open_decoders()),
            options=options,
            metrics=self._metrics,
            remote=remote,
            state=lambda: self._middleware.state,
        )

    def _open_decoders(self) -> Decoders | None:
        from toplabel._internal.child import can_start
        from toplabel.serve.decoder import Limits
        from toplabel.serve.decoders import Decoders

        if not can_start():
            return None
        pixels, files = self._read.max_pixels * USUAL_BYTES, 4 * self._options.max_body
        memory = _DECODER_BYTES + int(pixels) + files
        self._decoders = Decoders(Limits(seconds=_DECODING_SECONDS, memory=memory))
        return self._decoders

    def _open(self, app: Any) -> None:
        self._middleware.app = app
        gc.collect()
        gc.freeze()  # what there is now stays: no later collection looks at it again
        gc.set_threshold(*_COLLECT_AFTER)  # the command line's is that of a start
        gc.enable()
        if self._middleware.state == "starting":
            self._middleware.state = "ready"
        host, port = self._listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("ready at http://%s:%s", shown, port)

    def _give_up(self) -> None:
        self._middleware.state = "draining"
        self._server.should_exit = True

    def _stop(self, number: int) -> None:
        """The first signal lets the server finish, the second ends it."""
        if self._stopping is not None:
            os._exit(128 + number)
        wait = self._options.lame_duck if number == signal.SIGTERM else 0.0
        self._middleware.state = "draining"
        self._stopping = asyncio.ensure_future(self._drain(wait))

    async def _drain(self, seconds: float) -> None:
        """Accept for a while, then no more; what has been accepted may still bring a request."""
        try:
            await asyncio.sleep(seconds)
            while not self._server.started:
                await asyncio.sleep(0.01)
            listener = self._listener.dup()  # so that what waits to be accepted is not reset yet
            for server in self._server.servers:
                server.close()
            late = accept_waiting(listener)
            listener.close()
            for sock in late:
                await self._connections.take(sock)
            await asyncio.sleep(_LAST_CHANCE_SECONDS)
            until = monotonic() + self._options.drain_timeout
            while self._connections.in_head and monotonic() < until:
                await asyncio.sleep(0.02)  # uvicorn closes what has not begun a request
        except OSError as error:
            logger.warning("connections that waited to be accepted are lost: %s", error)
        finally:
            self._server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: The address cannot be had.
    """
    try:
        ((family, *_, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio sends without delay only where the protocol is named: else the second half of an
        # answer waits 40 ms for the client's acknowledgement of the first
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except (OSError, OverflowError, ValueError) as error:
        raise _cannot_listen(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    listener.setblocking(False)
    return listener


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """The connections that the kernel has completed, so that closing the socket resets none."""
    accepted = []
    with suppress(OSError):  # none waits any more, or there are no descriptors
        while _is_waited_at(listener):
            accepted.append(listener.accept()[0])
    return accepted


def _is_waited_at(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted, as far as one can know.

    Asking by `accept` would let another thread have Python's lock, and a connection come meanwhile.
    """
    if sys.platform != "linux":
        return True
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return bool(struct.unpack_from("I", info, 24)[0])  # tcpi_unacked: of a listener, its queue


def _cannot_listen(host: str, port: int, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or str(error)
    return UsageError(f"cannot listen on {host}:{port}: {reason}; choose another --port or --host")


def _allow_descriptors(connections: int) -> int:
    """Let this process have a file descriptor for each connection, as far as the system allows.

    Returns:
        How many connections there can be: beyond that none could be told that there are too many.
    """
    try:
        import resource
    except ImportError:  # on Windows
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    possible = max(1, min(connections, soft - min(_OTHER_DESCRIPTORS, soft // 2)))
    if possible < connections:
        logger.warning("at most %d connections: the limit of descriptors is %d", possible, soft)
    return possible


async def _trim_now_and_then() -> None:
    """Give back the memory of bodies and images, which lies free between what is kept.

    Without it resident memory grows for as long as ever more of them meet, by 100 MB in minutes.
    """
    while True:
        await asyncio.sleep(_TRIM_SECONDS)
        await asyncio.to_thread(trim_memory)


def _import_application() -> None:
    import toplabel.serve.app  # noqa: F401
