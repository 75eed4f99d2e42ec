"""A turn as a timeline."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from chowder_local.core.domain import InstanceId
from chowder_local.dashboard.charts import LEAST_WIDTH, WIDTH, timeline
from chowder_local.instances.conversations.trace_log import TracedTurn, TurnStatus
from chowder_local.relay.turn_steps import Step, StepKind

TURN = TracedTurn(
    "request-1", InstanceId("i"), "agent:main:main", datetime(2026, 11, 29, tzinfo=UTC), 0.0, 2.0,
    TurnStatus.ANSWERED, ended_calls=("ex-1",),
)  # fmt: skip


def step(after_s: float, took_s: float | None, **more: Any) -> Step:
    fields: dict[str, Any] = dict.fromkeys(each.name for each in dataclasses.fields(Step)) | more
    fields |= {"kind": StepKind.MODEL, "name": "gpt-4o", "model_call_id": "ex-1"}
    return Step(**fields | {"after_s": after_s, "took_s": took_s})


def test_a_bar_is_where_its_step_was_in_the_turn() -> None:
    (row,) = timeline(TURN, [step(0.5, 1.0)])
    assert (row.x, row.width, row.is_tool) == (25.0, 50.0, False)


def test_a_short_step_is_still_to_be_seen_and_none_leaves_the_picture() -> None:
    short, unended, late = timeline(TURN, [step(0.1, 0.0), step(1.5, None), step(1.99, 5.0)])
    assert short.width == LEAST_WIDTH
    assert (unended.x, unended.width) == (75.0, 25.0)
    assert late.x + late.width <= WIDTH
