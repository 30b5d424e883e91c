"""`toplabel serve`: an HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import click

from toplabel.cli.options import (
    debug_option,
    engine_options,
    reading_options,
    stating_options,
    take_read_options,
)
from toplabel.cli.sections import Sectioned
from toplabel.cli.several import take_statements_of_one
from toplabel.cli.terminal import show_notices
from toplabel.serve.options import MAX_PIXELS, ServeOptions

HELP = """Serve predictions over HTTP.

\b
toplabel serve                                  http://127.0.0.1:8000
toplabel serve -m cats.toplabel -m resnet50     several models; the first is the default
toplabel serve -m cats=best.toplabel --port 9000   and what to call one of them
curl --data-binary @cat.jpg 'localhost:8000/v1/classify?top_k=3'

/ is a page to drop images on, /docs the API, /metrics for Prometheus, /health/live and
/health/ready. SIGTERM and Ctrl-C finish what has been accepted; a second one ends at once.
"""


def _serve_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of `ServeOptions`."""
    for one in reversed([one for one in fields(ServeOptions) if one.metadata["shell"]]):
        about, kind = one.metadata, str(one.type)
        shared: dict[str, Any] = {"help": about["help"], "metavar": about["metavar"]}
        if kind == "bool":
            shared["is_flag"] = True
        elif about["choices"]:
            shared |= {"type": click.Choice(about["choices"]), "metavar": None}
        elif kind.startswith("Sequence"):
            shared |= {"multiple": True, "help": f"{about['help']} May be repeated."}
        elif kind.startswith("int"):
            shared["type"] = click.IntRange(about["minimum"], about["maximum"])
        elif kind == "float":
            shared["type"] = float
        names = about["flags"] or (f"--{one.name.replace('_', '-')}",)
        command = click.option(*names, one.name, **shared)(command)
    return command


@click.command(
    cls=Sectioned, help=HELP, short_help="Serve predictions over HTTP: an API and a page."
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="Which model; may be repeated, the first is the default.",
)
@_serve_flags
@engine_options
@stating_options
@reading_options
@debug_option
def serve(models: tuple[str, ...], **options: Any) -> int:
    """Serve until told to stop."""
    from toplabel._internal.optional import require

    for library in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        require(library, extra="serve", purpose="toplabel serve")
    from toplabel import load
    from toplabel.serve.access_log import configure_logging
    from toplabel.serve.server import serve as run_server

    own = {one.name: options.pop(one.name) for one in fields(ServeOptions) if one.metadata["shell"]}
    serving = ServeOptions(**{name: value for name, value in own.items() if value is not None})
    if options["max_pixels"] is None:
        options["max_pixels"] = MAX_PIXELS
    read = replace(take_read_options(options), max_bytes=serving.max_body)
    stated = take_statements_of_one(options, len(models))
    show_notices(shown=True)
    configure_logging(requests=not serving.no_access_log)
    return run_server(
        models,
        load=lambda name: load(name, read=read, **options, **stated),
        options=serving,
        read=read,
        threads=options["threads"],
        batch_size=options["batch_size"],
    )
