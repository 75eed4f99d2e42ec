"""Traces: what an agent did in its latest turns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from tests.scripted import gateway as scripted
from tests.scripted.talking import REQUEST

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

SYSTEM = "Runtime: agent=main | session=agent:main:main | sessionId=1 | host=agent"
TOOL = {
    "type": "function_call",
    "call_id": "c-1",
    "name": "exec",
    "arguments": '{"command":"date"}',
}
USAGE = {"input_tokens": 7, "output_tokens": 2}


def call_model(http: Api, instance: Instance, *output: Any) -> None:
    """A model call of the agent's turn, as the relay handles it."""
    exchanges = http.services.exchanges
    body = {"model": "gpt-4o", "input": [{"role": "developer", "content": SYSTEM}]}
    call = exchanges.begin(
        instance.organization_id,
        instance.id,
        ModelProvider.OPENAI,
        "responses",
        json.dumps(body).encode(),
        "turn-1",
    )
    assert http.world.session_watch.note(instance.sandbox_id, call)
    answer = {"object": "response", "output": list(output), "usage": USAGE}
    exchanges.append(call, json.dumps(answer).encode())
    call.finish("offline")


async def test_a_turn_has_its_model_calls_and_the_tools_between_them(http: Api) -> None:
    instance = await http.world.created()

    async def handler(message: Any, receive: Any, send: Any) -> None:
        call_model(http, instance, TOOL)
        call_model(http, instance)
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = handler
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=REQUEST)
    path = f"/local/instances/{instance.id}/traces"
    (turn,) = (await http.get(path)).json()
    assert turn["response_id"] == answer.json()["id"]
    assert (turn["status"], turn["session"], turn["model_calls"]) == ("answered", None, 2)
    trace = (await http.get(f"{path}/{turn['response_id']}")).json()
    first, tool, last = trace["steps"]
    assert [each["kind"] for each in trace["steps"]] == ["model_call", "tool", "model_call"]
    assert (first["name"], first["outcome"], first["input_tokens"]) == ("gpt-4o", "offline", 7)
    assert (tool["name"], tool["arguments"]) == ("exec", {"command": "date"})
    assert tool["after_s"] + tool["took_s"] <= last["after_s"] + 0.001


async def test_a_turn_that_fails_is_listed_without_an_answer(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.handler = scripted.failing(500, {"error": {"message": "broken"}})
    refused = await http.post(f"/v1/instances/{instance.id}/session/a/responses", json=REQUEST)
    assert not refused.is_success
    (turn,) = (await http.get(f"/local/instances/{instance.id}/traces")).json()
    assert (turn["response_id"], turn["status"], turn["session"]) == (None, "failed", "a")


async def test_an_unknown_answer_has_no_trace(http: Api) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/local/instances/{instance.id}/traces/resp_unknown")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Trace not found")
