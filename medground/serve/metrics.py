"""Figures for Prometheus: how much is asked, how long it takes, how it ends. No label tells what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from medground.serve.images import Images
    from medground.serve.lane import Lane

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "medground_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "medground_request_seconds",
            "From a request's first byte to the answer's last.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "medground_batch_size",
            "Questions that the reasoner was given at once.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.left = Counter("medground_clients_left", "Clients that left before the answer.", registry=self._registry)

    def watch(self, reasoning: Lane, masks: Lane, images: Images) -> None:
        """Read the state of queues and uploads whenever the figures are asked for."""
        waiting = Gauge("medground_queue", "Work that waits for a model.", ("lane",), registry=self._registry)
        waiting.labels("reasoner").set_function(lambda: reasoning.waiting)
        waiting.labels("segmenter").set_function(lambda: masks.waiting)
        Gauge("medground_images", "Uploads that are kept.", registry=self._registry).set_function(lambda: len(images))
        Gauge("medground_image_bytes", "Bytes of uploads and decoded pictures.", registry=self._registry).set_function(
            lambda: images.held_bytes
        )

    def text(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        return generate_latest(self._registry)
