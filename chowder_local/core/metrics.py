"""The metrics of `/local/metrics`: all of them are listed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics import MetricWrapperBase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "HEAD"}
OTHER = "other"
"""For a method or path that clients made up, so that they cannot make up metrics."""
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BOOT_BUCKETS_S = (0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180)


@dataclass(frozen=True)
class Figures:
    """What is not counted as it happens, but looked up when somebody asks."""

    version: str
    started_at_s: float
    instances: Mapping[str, int]
    warm_sandboxes_ready: int
    boots_in_progress: int
    boots_queued: int
    engine_failures: int


class Metrics:
    """Counts what happens; a label never tells whose it is, nor anything that clients made up."""

    def __init__(self) -> None:
        self.open_streams = Gauge(
            "chowder_open_streams",
            "Event streams that are being sent.",
            registry=None,
        )
        self._requests = Counter(
            "chowder_requests",
            "Requests that have ended, by route and class of status.",
            ("method", "route", "status"),
            registry=None,
        )
        self._durations = Histogram(
            "chowder_request_duration_seconds",
            "From a request's arrival to the end of its answer, streamed or not.",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_S,
            registry=None,
        )
        self._boots = Histogram(
            "chowder_boot_duration_seconds",
            "From a boot's beginning, its place in the queue left, to its end.",
            ("outcome",),
            buckets=BOOT_BUCKETS_S,
            registry=None,
        )
        self._model_calls = Counter(
            "chowder_model_calls",
            "Model calls: answered, offline, refused, unreachable, broken, client_disconnected, "
            "no_credentials, failed.",
            ("provider", "outcome"),
            registry=None,
        )
        # To find a labelled metric takes the library longer than to count with it.
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, method: str, route: str | None, status: int, took_s: float) -> None:
        """Counts a request; `route` is its template, None if no route was found."""
        key = (method if method in METHODS else OTHER, route or OTHER, status // 100)
        if (labelled := self._labelled.get(key)) is None:
            labelled = self._labelled[key] = self._labelled_for(*key)
        counter, durations = labelled
        counter.inc()
        durations.observe(took_s)

    def _labelled_for(self, method: str, route: str, kind: int) -> tuple[Counter, Histogram]:
        status = f"{kind}xx" if kind else "none"
        counter = self._requests.labels(method, route, status)
        return counter, self._durations.labels(method, route)

    def boot(self, outcome: str, took_s: float) -> None:
        self._boots.labels(outcome).observe(took_s)

    def model_call(self, provider: str, outcome: str) -> None:
        self._model_calls.labels(provider, outcome).inc()

    def render(self, figures: Figures) -> bytes:
        """Everything, as Prometheus reads it."""
        requests = (self._requests, self._durations)
        counted = (*requests, self.open_streams, self._boots, self._model_calls)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(counted, figures))
        return generate_latest(registry)


class _Collector:
    """Everything that is counted or looked up, for one answer."""

    def __init__(self, counted: tuple[MetricWrapperBase, ...], figures: Figures) -> None:
        self._counted = counted
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        for each in self._counted:
            for metric in each.collect():
                # When a counter was made is of no use, and as long again as the counters.
                metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
                yield metric
        yield from _looked_up(self._figures)
        yield from _process()


def _looked_up(figures: Figures) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "chowder_info", "Always 1; the version is a label.", labels=["version"]
    )
    info.add_metric([figures.version], 1)
    yield info
    yield _gauge("process_start_time_seconds", "When the server was started.", figures.started_at_s)
    instances = GaugeMetricFamily(
        "chowder_instances", "Instances in each status.", labels=["status"]
    )
    for status, count in figures.instances.items():
        instances.add_metric([status], count)
    yield instances
    yield _gauge(
        "chowder_warm_sandboxes_ready",
        "Warm sandboxes that may be claimed.",
        figures.warm_sandboxes_ready,
    )
    yield _gauge(
        "chowder_boots_in_progress",
        "Instances on their way to running, those in the queue included.",
        figures.boots_in_progress,
    )
    yield _gauge("chowder_boots_queued", "Boots that wait for their turn.", figures.boots_queued)
    yield CounterMetricFamily(
        "chowder_engine_failures",
        "Calls that the container engine did not do.",
        value=figures.engine_failures,
    )


def _process() -> Iterator[Metric]:
    process = psutil.Process()
    yield _gauge(
        "process_resident_memory_bytes", "The server's own memory.", process.memory_info().rss
    )
    yield _gauge(
        "process_open_fds", "Files and sockets that the server has open.", process.num_fds()
    )


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
