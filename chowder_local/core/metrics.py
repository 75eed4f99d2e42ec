"""The metrics that `/local/metrics` tells: a registry of the server's own, and their one list."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

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
    spares_ready: int
    boots_under_way: int
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
        self._boots = Histogram(
            "chowder_boot_duration_seconds",
            "From a boot's beginning, its place in the queue left, to its end.",
            ("outcome",),
            buckets=BOOT_BUCKETS_S,
            registry=None,
        )
        self._model_calls = Counter(
            "chowder_model_calls",
            "Model calls: answered, offline, refused, unreachable, broken, left, keyless, failed.",
            ("provider", "outcome"),
            registry=None,
        )
        self._requests: dict[tuple[str, str, int], _Durations] = {}

    def request(self, method: str, route: str | None, status: int, took_s: float) -> None:
        """Counts a request; `route` is its template, None if no route was found."""
        asked = (method if method in METHODS else OTHER, route or OTHER, status // 100)
        # The library's own counters are for threads, and take four times as long.
        if (durations := self._requests.get(asked)) is None:
            durations = self._requests[asked] = _Durations()
        durations.add(took_s)

    def boot(self, outcome: str, took_s: float) -> None:
        """Counts a boot that has ended."""
        self._boots.labels(outcome).observe(took_s)

    def model_call(self, provider: str, outcome: str) -> None:
        """Counts a model call that has ended."""
        self._model_calls.labels(provider, outcome).inc()

    def told(self, figures: Figures) -> bytes:
        """Everything, as Prometheus reads it."""
        registry = CollectorRegistry(auto_describe=False)
        counted = (self.open_streams, self._boots, self._model_calls)
        registry.register(_All(self._requests, counted, figures))
        return generate_latest(registry)


class _Durations:
    """How long requests of one kind took, by bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(REQUEST_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float) -> None:
        """Counts one."""
        self.counts[bisect_left(REQUEST_BUCKETS_S, took_s)] += 1
        self.sum_s += took_s


class _All:
    """Everything that is counted or looked up, for one answer."""

    def __init__(
        self,
        requests: Mapping[tuple[str, str, int], _Durations],
        counted: tuple[MetricWrapperBase, ...],
        figures: Figures,
    ) -> None:
        self._requests = requests
        self._counted = counted
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """The metrics with their values."""
        yield from _of_requests(self._requests)
        for each in self._counted:
            for metric in each.collect():
                # When a counter was made is of no use, and as long again as the counters.
                metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
                yield metric
        yield from _looked_up(self._figures)
        yield from _process()


def _of_requests(requests: Mapping[tuple[str, str, int], _Durations]) -> Iterator[Metric]:
    counter = CounterMetricFamily(
        "chowder_requests",
        "Requests that have ended, by route and class of status.",
        labels=("method", "route", "status"),
    )
    histogram = HistogramMetricFamily(
        "chowder_request_duration_seconds",
        "From a request's arrival to the end of its answer, streamed or not.",
        labels=("method", "route"),
    )
    together: defaultdict[tuple[str, str], _Durations] = defaultdict(_Durations)
    for (method, route, kind), durations in requests.items():
        status = f"{kind}xx" if kind else "none"
        counter.add_metric((method, route, status), sum(durations.counts))
        whole = together[method, route]
        whole.counts = [sum(pair) for pair in zip(whole.counts, durations.counts, strict=True)]
        whole.sum_s += durations.sum_s
    bounds = [*map(floatToGoString, REQUEST_BUCKETS_S), "+Inf"]
    for labels, durations in together.items():
        buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
        histogram.add_metric(labels, buckets, durations.sum_s)
    yield counter
    yield histogram


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
    yield _gauge("chowder_spares_ready", "Spares that may be claimed.", figures.spares_ready)
    yield _gauge(
        "chowder_boots_under_way",
        "Instances on their way to running, those in the queue included.",
        figures.boots_under_way,
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
