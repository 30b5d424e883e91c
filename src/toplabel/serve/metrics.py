"""Metrics: what a server counts and measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from toplabel.inference.prediction import Prediction

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "toplabel_requests",
            "Requests by route, method and status.",
            ("route", "method", "code"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "toplabel_request_seconds",
            "From a request's headers to its response.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "toplabel_stage_seconds",
            "Of one image: waiting for a worker, reading and preprocessing it, the model.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        text = "Images by model and outcome: labelled, or the code of the error."
        self.images = Counter("toplabel_images", text, ("model", "outcome"), registry=registry)
        text = "Images unlike all that the model was trained on."
        self.unknown = Counter("toplabel_unknown_images", text, ("model",), registry=registry)
        text = "Their share of the last hour's images."
        self.unknown_share = Gauge("toplabel_unknown_share", text, ("model",), registry=registry)
        text = "The most of it that images like those of the training explain."
        name = "toplabel_unknown_share_expected"
        self.unknown_expected = Gauge(name, text, ("model",), registry=registry)
        text = "1 where the last hour's images differ from those of the training."
        self.drift = Gauge("toplabel_drift", text, ("model",), registry=registry)
        text = "Images answered in reduced precision."
        self.reduced = Counter("toplabel_reduced_images", text, ("model",), registry=registry)
        text = "Images computed exactly where reduced precision was asked for."
        name = "toplabel_recomputed_images"
        self.recomputed = Counter(name, text, ("model",), registry=registry)
        text = "Of these, images whose reduced answer was the same, or changed: the audit's."
        name = "toplabel_audited_images"
        self.audited = Counter(name, text, ("model", "found"), registry=registry)
        text = "Images in one call of a model."
        self.batch_images = Histogram(
            "toplabel_batch_images", text, buckets=_IMAGES, registry=registry
        )
        text = "Connections refused before there was a whole request, by reason."
        self.refused = Counter("toplabel_refused_connections", text, ("reason",), registry=registry)
        text = "Requests being answered."
        self.in_flight = Gauge("toplabel_requests_in_flight", text, registry=registry)

    def count_reduced(self, model: str, prediction: Prediction) -> None:
        """Count an answer of a model that answers in reduced precision, too."""
        by = self.recomputed if prediction.precision is None else self.reduced
        by.labels(model).inc()
        if prediction.audit is not None:
            self.audited.labels(model, prediction.audit).inc()

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value that is looked up when it is asked for."""
        Gauge(f"toplabel_{name}", text, registry=self.registry).set_function(value)

    def render(self) -> bytes:
        """The metrics as Prometheus reads them."""
        return generate_latest(self.registry)
