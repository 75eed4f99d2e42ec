"""What an agent did in a turn, from its model calls."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.relay.call_log import CallLog, ModelCall
from chowder_local.relay.turn_steps import StepKind, steps_of

USAGE = {"input_tokens": 7, "output_tokens": 2}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c-{name}", "name": name, "arguments": "{}"}


def ended(log: CallLog, *output: dict[str, Any]) -> ModelCall:
    body = json.dumps({"model": "gpt-4o", "input": "Hi"}).encode()
    call = log.begin(None, InstanceId("i"), ModelProvider.OPENAI, "responses", body)
    log.append(
        call, json.dumps({"object": "response", "output": list(output), "usage": USAGE}).encode()
    )
    call.finish("offline")
    call.took_s = 0.5
    return call


def test_tools_that_one_answer_asks_for_share_the_time_until_the_next_call() -> None:
    log = CallLog()
    first, last = ended(log, tool("read"), tool("exec")), ended(log)
    last.at = first.at + timedelta(seconds=2)
    steps = steps_of([first, last], first.at - timedelta(seconds=1))
    assert [(each.kind, each.name) for each in steps] == [
        (StepKind.MODEL, "gpt-4o"),
        (StepKind.TOOL, "read"),
        (StepKind.TOOL, "exec"),
        (StepKind.MODEL, "gpt-4o"),
    ]
    assert [(each.after_s, each.took_s) for each in steps] == [
        (1.0, 0.5), (1.5, 1.5), (1.5, 1.5), (3.0, 0.5),
    ]  # fmt: skip
    assert steps[0].input_tokens == 7


def test_what_is_in_progress_has_no_end() -> None:
    log = CallLog()
    asking = ended(log, tool("exec"))
    (_, running) = steps_of([asking], asking.at)
    assert running.took_s is None
    begun = log.begin(None, InstanceId("i"), ModelProvider.OPENAI, "responses", b"{}")
    (step,) = steps_of([begun], begun.at)
    assert (step.took_s, step.outcome, step.input_tokens) == (None, None, None)


def test_no_call_is_no_step() -> None:
    assert steps_of([], ended(CallLog()).at) == []
