"""What is a drift, which drifts are known, and what a report has of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chowder_local.api.openapi.differences import Difference, Expectation
from chowder_local.conformance.drift import Drift, DriftFinding, Judge, redacted
from chowder_local.conformance.run import Run, as_json, as_markdown
from chowder_local.conformance.service import RowsFailed, Target, every_row

ENTRY = Difference(
    id="status",
    topic="a status",
    hosted="approved",
    here="paired",
    why="One of them.",
    since="0.1.0",
    expect=Expectation(hosted={"const": "approved"}, here={"const": "paired"}),
)


def judge(target: Target) -> Judge:
    return Judge(target, {"status": ENTRY})


def test_what_the_target_is_expected_to_do_is_no_drift() -> None:
    for target, observed in ((Target.HOSTED, "approved"), (Target.LOCAL, "paired")):
        judging = judge(target)
        assert judging("status", observed) == observed
        assert judging.take_known() == []


def test_a_hosted_service_that_does_as_we_do_is_a_known_drift_once() -> None:
    judging = judge(Target.HOSTED)
    assert judging("status", "paired") == "paired"
    (known,) = judging.take_known()
    assert (known.expected, known.observed, known.entry) == ("approved", "'paired'", "status")
    assert judging.take_known() == []


@pytest.mark.parametrize(
    ("target", "observed"), [(Target.HOSTED, "else"), (Target.LOCAL, "approved")]
)
def test_anything_else_fails(target: Target, observed: str) -> None:
    with pytest.raises(Drift) as failure:
        judge(target)("status", observed)
    assert failure.value.entry is None


def test_every_row_runs_and_each_failure_is_kept() -> None:
    drift = Drift("getKey", "404", "410")
    errors = {"first": drift, "second": AssertionError("no"), "third": None}

    def fail_all() -> None:
        with every_row() as row:
            for name, error in errors.items():
                with row(name):
                    if error is not None:
                        raise error

    with pytest.raises(RowsFailed) as failure:
        fail_all()
    assert failure.value.failed == [("first", drift), ("second", errors["second"])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("401 chd_org_0123456789", "401 chd_org_…"),
        ('{"raw_key": "other-form"}', '{"raw_key": "…"}'),
        ('{"api_key":"x"}', '{"api_key":"…"}'),
        ("Bearer abc", "Bearer …"),
        ("chd_sk_f3a8....", "chd_sk_f3a8...."),
        ("a\n  b", "a b"),
    ],
)
def test_a_report_has_no_keys(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_a_report_separates_what_no_entry_explains() -> None:
    findings = (
        DriftFinding("getKey", "404", "410 | gone", None, "A key"),
        DriftFinding("pairChannel", "approved", "paired", "status", "A pairing"),
    )
    tests = ({"test": "A skill", "outcome": "skipped", "reason": "No agent."},)
    run = Run(1, tests, findings, ("getKey",))
    content = as_json(run, "http://x/v1", "hosted", datetime(2026, 5, 4, tzinfo=UTC))
    _, news, known, rest = as_markdown(content, findings).split("\n## ")
    assert "(1)\n" in news
    assert r"| `getKey` | 404 | 410 \| gone | none | A key |" in news
    assert "| `pairChannel` | approved | paired | status | A pairing |" in known
    assert "- A skill: No agent." in rest
    assert "- `pairChannel` has not succeeded." in rest
    assert "`getKey`" not in rest
