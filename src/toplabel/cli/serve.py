"""`toplabel serve`: an HTTP API."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toplabel.cli.options import (
    debug_option,
    engine_options,
    reading_options,
    stating_options,
    take_read_options,
)
from toplabel.cli.sections import Sectioned, add_options
from toplabel.cli.several import take_statements_of_one
from toplabel.cli.terminal import say

if TYPE_CHECKING:
    from toplabel.serve.limits import Limits
    from toplabel.serve.server import Serving

HELP = """Answer over HTTP.

\b
toplabel serve                                  http://127.0.0.1:8000
toplabel serve -m cats.toplabel -m resnet50     several models; the first is the default
toplabel serve -m cats=best.toplabel --port 9000   and what to call one of them
curl --data-binary @cat.jpg 'localhost:8000/v1/classify?top_k=3'

/ is a page to drop pictures on, /docs the API, /metrics for Prometheus, /health/live and
/health/ready. SIGTERM and Ctrl-C finish what has been accepted; a second one ends at once.
"""

_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)

_SERVING = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at."),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8000,
        show_default=True,
        help="0 takes a free one.",
    ),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Ask for the token in it; else for that in TOPLABEL_TOKEN, if it is set.",
    ),
    click.option(
        "--allow-url-host",
        "url_hosts",
        multiple=True,
        metavar="HOST",
        help="Fetch pictures that requests name by URL from this host; may be repeated.",
    ),
    click.option(
        "--batching",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        help="Concurrent requests in one call: auto does it on GPUs, where it helps.",
    ),
    click.option("--no-access-log", is_flag=True, help="No line for each request."),
)

_LIMITS = (
    click.option(
        "--max-body", type=_COUNT, metavar="BYTES", help="Of a request.  [default: 32 MiB]"
    ),
    click.option("--max-images", type=_COUNT, metavar="N", help="Of a request.  [default: 32]"),
    click.option("--queue", type=_COUNT, metavar="N", help="Images that may wait.  [default: 128]"),
    click.option("--max-connections", type=_COUNT, metavar="N", help="At a time.  [default: 1000]"),
    click.option(
        "--header-timeout", type=_POSITIVE, metavar="SECONDS", help="To send headers. [default: 10]"
    ),
    click.option(
        "--body-timeout", type=_POSITIVE, metavar="SECONDS", help="To send a body.  [default: 30]"
    ),
    click.option(
        "--request-timeout", type=_POSITIVE, metavar="SECONDS", help="To answer.  [default: 60]"
    ),
    click.option(
        "--drain-timeout",
        type=_POSITIVE,
        metavar="SECONDS",
        help="To finish what is accepted, when told to stop.  [default: 30]",
    ),
    click.option(
        "--lame-duck",
        type=click.FloatRange(min=0),
        default=1.0,
        metavar="SECONDS",
        help="Accept requests for so long after SIGTERM, not ready any more.  [default: 1]",
    ),
)

_LIMIT_NAMES = {
    "max_body": "body_bytes",
    "max_images": "images",
    "queue": "queued",
    "max_connections": "connections",
    "header_timeout": "head_seconds",
    "body_timeout": "body_seconds",
    "request_timeout": "request_seconds",
    "drain_timeout": "drain_seconds",
}

MAX_PIXELS = 50_000_000
"""Of a picture, unless --max-pixels says otherwise: strangers send them, several at a time."""

_BATCHING = {"auto": None, "on": True, "off": False}


@click.command(cls=Sectioned, help=HELP, short_help="Answer over HTTP: an API and a page.")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="Which model; may be repeated, the first is the default.",
)
@lambda command: add_options(command, _SERVING)
@lambda command: add_options(command, _LIMITS, section="Limits")
@engine_options
@stating_options
@reading_options
@debug_option
def serve(models: tuple[str, ...], **options: Any) -> int:
    """Serve until told to stop."""
    from toplabel._internal.optional import require

    for library in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        require(library, extra="serve", purpose="toplabel serve")
    from toplabel.serve.server import serve as run_server

    warnings.filterwarnings("ignore", module="PIL")
    return run_server(_serving(models, options))


def _serving(models: tuple[str, ...], options: dict[str, Any]) -> Serving:
    """What the options say, for the server."""
    from toplabel import load
    from toplabel.serve.access_log import configure_logging
    from toplabel.serve.listening import is_loopback
    from toplabel.serve.server import Serving
    from toplabel.serve.tokens import read_token

    configure_logging(requests=not options.pop("no_access_log"))
    own = {name: options.pop(name) for name in ("host", "port", "lame_duck", "url_hosts")}
    token = read_token(options.pop("token_file"))
    batching = _BATCHING[options.pop("batching")]
    limits = _limits(options)
    if options["max_pixels"] is None:
        options["max_pixels"] = MAX_PIXELS
    read = replace(take_read_options(options), max_bytes=limits.body_bytes)
    said = take_statements_of_one(options, len(models))
    if token is None and not is_loopback(own["host"]):
        say(
            f"warning: anybody who can reach {own['host']} may use this server; ask for a token"
            " with --token-file, or listen at 127.0.0.1"
        )
    return Serving(
        models=models,
        load=lambda name: load(name, notify=say, read=read, **options, **said),
        host=own["host"],
        port=own["port"],
        threads=options["threads"],
        batching=batching,
        batch_size=options["batch_size"],
        read=read,
        limits=limits,
        token=token,
        url_hosts=own["url_hosts"],
        lame_duck_seconds=own["lame_duck"],
        tell=say,
    )


def _limits(options: dict[str, Any]) -> Limits:
    from toplabel.serve.limits import Limits

    given = {name: options.pop(option) for option, name in _LIMIT_NAMES.items()}
    said = {name: value for name, value in given.items() if value is not None}
    defaults = Limits()
    body = said.get("body_bytes", defaults.body_bytes)
    said["buffered_bytes"] = max(defaults.buffered_bytes, 2 * body)
    said["queued"] = max(said.get("queued", defaults.queued), said.get("images", 0))
    return Limits(**said)
