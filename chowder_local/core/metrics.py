"""All metrics of `/local/metrics`."""

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
"""The label for unknown methods and paths, so that clients cannot add metrics."""
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BOOT_BUCKETS_S = (0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180)


@dataclass(frozen=True)
class Figures:
    """The values that are read for each response, not counted."""

    version: str
    started_at_s: float
    instances: Mapping[str, int]
    instances_hibernated: int
    warm_sandboxes_ready: int
    boots_in_progress: int
    boots_queued: int
    engine_failures: int
    nodes: Mapping[str, int]
    """The sandboxes of each machine, if they are several."""
    nodes_linked: int


class Metrics:
    """Counters and histograms. A label names neither an organization nor text of a client."""

    def __init__(self) -> None:
        self.open_streams = Gauge(
            "chowder_open_streams",
            "Event streams that are open.",
            registry=None,
        )
        self._requests = Counter(
            "chowder_requests",
            "Requests that have ended, by method, route template and class of status.",
            ("method", "route", "status"),
            registry=None,
        )
        self._durations = Histogram(
            "chowder_request_duration_seconds",
            "Time from a request's arrival to the end of its answer, streamed or not.",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_S,
            registry=None,
        )
        self._boots = Histogram(
            "chowder_boot_duration_seconds",
            "Time of a boot without its wait in the queue, by outcome: ready, failed, abandoned.",
            ("outcome",),
            buckets=BOOT_BUCKETS_S,
            registry=None,
        )
        self._model_calls = Counter(
            "chowder_model_calls",
            "Model calls that have ended, by provider and outcome: answered, offline, refused, "
            "unreachable, broken, client_disconnected, no_credentials, failed.",
            ("provider", "outcome"),
            registry=None,
        )
        # The library takes longer to find a labelled metric than to count with it.
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, method: str, route: str | None, status: int, took_s: float) -> None:
        """Counts a request; `route` is the template, None if no route matched."""
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
        """All metrics in the text format of Prometheus."""
        requests = (self._requests, self._durations)
        metrics = (*requests, self.open_streams, self._boots, self._model_calls)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(metrics, figures))
        return generate_latest(registry)


@dataclass(eq=False, repr=False)
class _Collector:
    """All metrics of one response."""

    metrics: tuple[MetricWrapperBase, ...]
    figures: Figures

    def collect(self) -> Iterator[Metric]:
        for each in self.metrics:
            for metric in each.collect():
                # Creation times of counters are useless and double the response.
                metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
                yield metric
        yield from _figure_metrics(self.figures)
        yield from _process_metrics()


def _figure_metrics(figures: Figures) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "chowder_info", "Always 1; the version is a label.", labels=["version"]
    )
    info.add_metric([figures.version], 1)
    yield info
    yield _gauge(
        "process_start_time_seconds",
        "When the server was started, in Unix time.",
        figures.started_at_s,
    )
    instances = GaugeMetricFamily(
        "chowder_instances", "Instances in each status.", labels=["status"]
    )
    for status, count in figures.instances.items():
        instances.add_metric([status], count)
    yield instances
    yield _gauge(
        "chowder_instances_hibernated",
        "Running instances that are not in memory.",
        figures.instances_hibernated,
    )
    yield _gauge(
        "chowder_warm_sandboxes_ready",
        "Warm sandboxes that may be claimed.",
        figures.warm_sandboxes_ready,
    )
    yield _gauge(
        "chowder_boots_in_progress",
        "Instances that are being provisioned, including those in the boot queue.",
        figures.boots_in_progress,
    )
    yield _gauge("chowder_boots_queued", "Boots that wait for their turn.", figures.boots_queued)
    yield CounterMetricFamily(
        "chowder_engine_failures",
        "Calls to the container engine that failed.",
        value=figures.engine_failures,
    )
    if figures.nodes:
        nodes = GaugeMetricFamily(
            "chowder_node_sandboxes",
            "Sandboxes whose files are on each machine of a swarm.",
            labels=["node"],
        )
        for name, count in figures.nodes.items():
            nodes.add_metric([name], count)
        yield nodes
        yield _gauge(
            "chowder_nodes_linked", "Machines of a swarm that answer.", figures.nodes_linked
        )


def _process_metrics() -> Iterator[Metric]:
    process = psutil.Process()
    yield _gauge(
        "process_resident_memory_bytes",
        "Memory of the server's process.",
        process.memory_info().rss,
    )
    yield _gauge(
        "process_open_fds", "Files and sockets that the server has open.", process.num_fds()
    )


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=value)
