"""Metrics: what a server counts and measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "toplabel_requests",
            "Requests by route, method and status.",
            ("route", "method", "code"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "toplabel_request_seconds",
            "From a request's headers to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "toplabel_stage_seconds",
            "Of one image: waiting for a worker, reading and preparing it, the model.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "toplabel_images",
            "Images by model and outcome: labelled, or the code of the error.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "toplabel_batch_images",
            "Images in one call of a model.",
            buckets=_IMAGES,
            registry=self.registry,
        )
        self.refused = Counter(
            "toplabel_refused_connections",
            "Connections ended with a refusal before there was a whole request, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "toplabel_requests_in_flight", "Requests being answered.", registry=self.registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value that is looked up when it is asked for."""
        Gauge(f"toplabel_{name}", text, registry=self.registry).set_function(value)

    def render(self) -> bytes:
        """The metrics as Prometheus reads them."""
        return generate_latest(self.registry)
