"""`toplabel serve`: an HTTP API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from toplabel.cli.options import (
    MODEL,
    Command,
    check_one_model,
    default_models,
    flags_of,
    loading_flags,
    take,
    take_load_options,
)
from toplabel.serve.options import MAX_PIXELS, ServeOptions

HELP = """Serve predictions over HTTP.

\b
toplabel serve                                  http://127.0.0.1:8000
toplabel serve -m cats.toplabel -m resnet50     several models; the first is the default
toplabel serve -m cats=best.toplabel            a name of your own
curl --data-binary @cat.jpg 'localhost:8000/v1/classify?top_k=3'

/ is a page to drop images on, /docs describes the API, /metrics is for Prometheus, /health/live and
/health/ready for probes. SIGTERM and Ctrl-C stop the server once it has answered the requests it
accepted; a second one stops it at once.
"""


@click.command(cls=Command, help=HELP, short_help="Serve predictions over HTTP: an API and a page.")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]MODEL",
    type=MODEL,
    help="Model to serve. May be repeated; the first is the default.",
)
@flags_of(ServeOptions)
@loading_flags
def serve(models: tuple[str, ...], **options: Any) -> int:
    """Serve until told to stop."""
    from toplabel._internal.optional import require

    for library in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        require(library, extra="serve", purpose="toplabel serve")
    from toplabel import load
    from toplabel.serve.access_log import configure_logging
    from toplabel.serve.server import serve as run_server

    serving = ServeOptions(**take(ServeOptions, options))
    if options["max_pixels"] is None:
        options["max_pixels"] = MAX_PIXELS
    models = models or default_models()
    loading = take_load_options(options)
    check_one_model(loading, len(models))
    loading["read"] = replace(loading["read"], max_bytes=serving.max_body)
    configure_logging(requests=not serving.no_access_log)
    return run_server(
        models,
        load=lambda name: load(name, **loading),
        options=serving,
        read=loading["read"],
        threads=loading.get("threads"),
        batch_size=loading.get("batch_size"),
    )
