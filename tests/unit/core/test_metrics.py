"""Metrics: names, labels, and bounds against invented labels."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from chowder_local.core.metrics import Figures, Metrics

FIGURES = Figures(
    version="1.2.3",
    started_at_s=1000.0,
    instances={"running": 2, "stopped": 1},
    instances_hibernated=2,
    warm_sandboxes_ready=3,
    boots_in_progress=4,
    boots_queued=1,
    engine_failures=5,
    nodes={"node1": 7, "node2": 0},
    nodes_linked=1,
)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, as prometheus_client's parser reads them."""
    text = metrics.render(FIGURES).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def used_metrics() -> Metrics:
    """Metrics after one request, boot and model call."""
    metrics = Metrics()
    metrics.request("GET", "/v1/keys", 200, 0.02)
    metrics.boot("ready", 3.0)
    metrics.model_call("openai", "answered")
    return metrics


def test_machines_of_a_swarm_are_counted_with_their_sandboxes() -> None:
    assert value(Metrics(), "chowder_node_sandboxes", node="node1") == 7
    assert value(Metrics(), "chowder_nodes_linked") == 1


def test_unknown_methods_and_paths_share_one_metric() -> None:
    metrics = Metrics()
    before = len(samples(metrics))
    for number in range(100):
        metrics.request(f"X{number}", None, 405, 0.001)
    labels = {"method": "other", "route": "other", "status": "4xx"}
    assert value(metrics, "chowder_requests_total", **labels) == 100
    # A counter, and a histogram's buckets, sum and count.
    assert len(samples(metrics)) - before == 1 + 16 + 2


def test_a_request_without_an_answer_is_counted_with_status_none() -> None:
    metrics = Metrics()
    metrics.request("GET", "/v1/keys", 0, 0.001)
    labels = {"method": "GET", "route": "/v1/keys", "status": "none"}
    assert value(metrics, "chowder_requests_total", **labels) == 1


def test_figures_and_process_metrics_are_rendered() -> None:
    metrics = used_metrics()
    assert value(metrics, "chowder_info", version="1.2.3") == 1
    assert value(metrics, "chowder_instances", status="running") == 2
    assert value(metrics, "chowder_instances_hibernated") == 2
    assert value(metrics, "chowder_warm_sandboxes_ready") == 3
    assert value(metrics, "chowder_boots_in_progress") == 4
    assert value(metrics, "chowder_boots_queued") == 1
    assert value(metrics, "chowder_engine_failures_total") == 5
    assert value(metrics, "process_start_time_seconds") == 1000
    assert value(metrics, "process_resident_memory_bytes") > 1_000_000
    assert value(metrics, "process_open_fds") > 2


def test_boots_and_model_calls_are_counted_by_their_outcome() -> None:
    metrics = used_metrics()
    metrics.boot("failed", 100.0)
    assert value(metrics, "chowder_boot_duration_seconds_count", outcome="ready") == 1
    assert value(metrics, "chowder_boot_duration_seconds_sum", outcome="failed") == 100
    labels = {"provider": "openai", "outcome": "answered"}
    assert value(metrics, "chowder_model_calls_total", **labels) == 1


def test_two_servers_in_one_process_have_separate_counters() -> None:
    one, two = used_metrics(), Metrics()
    labels = {"provider": "openai", "outcome": "answered"}
    assert value(one, "chowder_model_calls_total", **labels) == 1
    assert ("chowder_model_calls_total", frozenset(labels.items())) not in samples(two)
