"""The page of metrics, from a server's answer."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from chowder_local.core.metrics import Figures, Metrics
from scripts.reference_pages.markdown import code, codes, inline, table
from scripts.reference_pages.markdown import page as make_page

LEAD = """\
`GET /local/metrics` needs no key, and answers in Prometheus's text format. No label names an
organization or an instance; `route` is the route's template. A histogram has the usual series
`_bucket`, `_sum` and `_count`."""
FIGURES = Figures(
    version="0",
    started_at_s=0.0,
    instances={"running": 0},
    instances_hibernated=0,
    warm_sandboxes_ready=0,
    boots_in_progress=0,
    boots_queued=0,
    engine_failures=0,
    nodes={"one": 0},
    nodes_linked=0,
)


def page() -> str:
    """The whole page."""
    metrics = Metrics()
    # A metric has labels only after it has counted something.
    metrics.request("GET", "/local/health", 200, 0.0)
    metrics.boot("ready", 0.0)
    metrics.model_call("anthropic", "answered")
    rows = []
    for family in text_string_to_metric_families(metrics.render(FIGURES).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = [each for each in family.samples[0].labels if each != "le"]
        rows.append((code(name), family.type, codes(labels), inline(family.documentation)))
    return make_page("Metrics", LEAD, table(("Metric", "Type", "Labels", "Meaning"), rows))
