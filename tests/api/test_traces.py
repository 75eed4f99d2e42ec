"""Traces: what an agent did in its latest turns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from chowder_local.core.domain import InstanceStatus, ModelProvider
from chowder_local.instances.conversations import trace_log
from chowder_local.openclaw.session_keys import session_key
from tests.api.test_recordings import ENTRY
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
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
USAGE = {"input_tokens": 7, "output_tokens": 2}


def call_model(http: Api, instance: Instance, *output: Any, after: Any = ()) -> None:
    """A model call of the agent's turn, as the relay handles it; `after` has earlier items."""
    call_log = http.world.call_log
    body = {"model": "gpt-4o", "input": [{"role": "developer", "content": SYSTEM}, *after]}
    call = call_log.begin(
        instance.organization_id,
        instance.id,
        ModelProvider.OPENAI,
        "responses",
        json.dumps(body).encode(),
        "turn-1",
    )
    assert http.world.session_watch.note(instance.sandbox_id, call)
    answer = {"object": "response", "output": list(output), "usage": USAGE}
    call_log.append(call, json.dumps(answer).encode())
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


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_has_the_agents_own_tool_calls_if_the_client_asks(
    http: Api, *, is_streamed: bool
) -> None:
    from openai.types.responses import Response
    from openai.types.responses.response_output_item import McpCall

    instance = await http.world.created()

    async def handler(message: Any, receive: Any, send: Any) -> None:
        call_model(http, instance, TOOL)
        result = {"type": "function_call_output", "call_id": "c-1", "output": "Sunday"}
        # The last call is the client's to run.
        call_model(http, instance, TOOL | {"call_id": "c-2", "name": "mine"}, after=[TOOL, result])
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = handler
    path, asked = f"/v1/instances/{instance.id}/responses", {"include": ["agent.tool_calls"]}
    plain = (await http.post(path, json=REQUEST)).json()
    answer = await http.post(path, json=REQUEST | asked | {"stream": is_streamed})
    response = answer.json() if not is_streamed else _followed(answer.text)
    *others, tool_call = Response.model_validate(response, strict=True).output
    assert [each.to_dict() for each in others] == plain["output"]
    assert isinstance(tool_call, McpCall)
    assert (tool_call.name, tool_call.arguments) == ("exec", '{"command": "date"}')
    assert (tool_call.output, tool_call.server_label) == ("Sunday", "openclaw")


def _followed(stream: str) -> Any:
    """The response of a stream's last event, whose items are those that the events told of."""
    from openai.types.responses import ResponseStreamEvent

    lines = [each.removeprefix("data: ") for each in stream.splitlines() if "data: {" in each]
    events = [json.loads(each) for each in lines]
    judge: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        judge.validate_python(event)
    response = events[-1]["response"]
    done = {e["output_index"]: e["item"] for e in events if e["type"].endswith("item.done")}
    assert done.items() <= dict(enumerate(response["output"])).items()
    assert len(response["output"]) - 1 in done
    return response


async def test_a_turn_that_fails_is_traced_by_the_id_of_its_request(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.handler = scripted.failing(500, {"error": {"message": "broken"}})
    refused = await http.post(f"/v1/instances/{instance.id}/session/a/responses", json=REQUEST)
    assert not refused.is_success
    path = f"/local/instances/{instance.id}/traces"
    (turn,) = (await http.get(path)).json()
    assert turn["id"] == refused.headers["X-Request-Id"]
    assert (turn["response_id"], turn["status"], turn["session"]) == (None, "failed", "a")
    assert turn["error"] == refused.json()["error"]["message"]
    assert (await http.get(f"{path}/{turn['id']}")).json() == turn | {"steps": []}


async def test_a_message_that_does_not_reach_the_agent_is_a_failed_turn(http: Api) -> None:
    instance = await http.world.placed(InstanceStatus.RUNNING, gateway_url="http://127.0.0.1:9")
    request = REQUEST | {"input": [{"role": "user", "content": [PICTURE]}]}
    refused = await http.post(f"/v1/instances/{instance.id}/responses", json=request)
    assert refused.status_code == 502
    (turn,) = (await http.get(f"/local/instances/{instance.id}/traces")).json()
    assert (turn["id"], turn["status"]) == (refused.headers["X-Request-Id"], "failed")


async def test_a_turn_is_traced_from_its_beginning(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/traces"
    running: list[Any] = []

    async def handler(message: Any, receive: Any, send: Any) -> None:
        call_model(http, instance, TOOL)
        running.extend((await http.get(path)).json())
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = handler
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=REQUEST)
    (turn,) = running
    assert turn["id"] == answer.headers["X-Request-Id"]
    assert (turn["status"], turn["model_calls"]) == ("in_progress", 1)


async def test_an_unknown_answer_has_no_trace(http: Api) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/local/instances/{instance.id}/traces/resp_unknown")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Trace not found")


async def run(http: Api, name: str, query: str = "") -> Any:
    return (await http.get(f"/local/runs/{name}{query}")).json()


async def send(http: Api, instance: Instance, session: str, text: str = "Hello") -> str:
    """The id of a message's turn, which has one model call."""

    async def handler(message: Any, receive: Any, send: Any) -> None:
        call_log, key = http.world.call_log, session_key(session)
        asked = [{"role": "developer", "content": SYSTEM.replace("agent:main:main", key)},
                 {"role": "user", "content": text}]  # fmt: skip
        body = json.dumps({"model": "gpt-4o", "input": asked}).encode()
        call = call_log.begin(
            instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body, text
        )
        assert http.world.session_watch.note(instance.sandbox_id, call)
        call.status, call.content_type = 200, "application/json"
        call_log.append(call, json.dumps({"object": "response", "output": []}).encode())
        call.finish("offline")
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = handler
    path = f"/v1/instances/{instance.id}/session/{session}/responses"
    answer = await http.post(path, json=REQUEST | {"input": text})
    return answer.headers["X-Request-Id"]


async def test_a_run_is_a_turn_a_session_or_an_agent(http: Api) -> None:
    instance = await http.world.created(name="fish")
    first = await send(http, instance, "a", "One")
    second = await send(http, instance, "b", "Two")
    third = await send(http, instance, "a", "Three")
    found = await run(http, third)
    (turn,) = found["turns"]
    assert (turn["id"], turn["session"], turn["status"]) == (third, "a", "answered")
    assert turn["request"]["input"] == "Three"
    (call,) = turn["calls"]
    assert call["asked"]["turns"] == [{"said": "Three"}]
    assert (call["answered"]["status"], call["outcome"]) == (200, "offline")
    for name, expected in {
        f"{third}?earlier=true": [first, third],
        "fish": [first, second, third],
        str(instance.id): [first, second, third],
        "fish:b": [second],
        f"fish:{session_key('b')}": [second],
    }.items():
        turns = (await run(http, name))["turns"]
        assert [each["id"] for each in turns] == expected, name


async def test_a_run_that_is_not_there_or_ambiguous_is_not_found(http: Api) -> None:
    fish = await http.world.created(name="fish")
    for _ in range(2):
        await http.world.created(name="twin")
    await send(http, fish, "a")
    await send(http, fish, "b")
    reasons = {}
    for name in ("nobody", "twin", "fish:c", "re", "recording:fish"):
        answer = await http.get(f"/local/runs/{name}")
        assert answer.status_code == 404
        reasons[name] = answer.json()["detail"]
    assert "several agents" in reasons["twin"]
    assert "several ids" in reasons["re"]
    assert "replays no recording" in reasons["recording:fish"]


async def test_a_run_is_given_without_secrets(http: Api) -> None:
    instance = await http.world.created(openclaw_config={"tools": {"apiKey": "planted-key"}})
    token = http.world.secret_box.gateway_token(instance.sandbox_id)
    keys = {"openai": "planted-model-key"}
    await http.call("PATCH", "/v1/organization", json={"model_api_keys": keys})
    text = f"Use planted-key, {token}, planted-model-key or sk-abcdefgh12."
    turn_id = await send(http, instance, "a", text)
    assert (await run(http, turn_id))["turns"][0]["request"]["input"] == text
    redacted = await run(http, turn_id, "?redact=true")
    hidden = "Use [redacted], [redacted], [redacted] or [redacted]."
    assert redacted["turns"][0]["request"]["input"] == hidden
    assert redacted["turns"][0]["calls"][0]["asked"]["turns"] == [{"said": hidden}]


async def test_a_run_says_how_many_of_its_model_calls_are_gone(http: Api) -> None:
    instance = await http.world.created()
    turn_id = await send(http, instance, "a")
    http.world.call_log.remove(instance.id)
    (turn,) = (await run(http, turn_id))["turns"]
    assert (turn["missing_calls"], turn["calls"]) == (1, [])


async def test_a_long_or_old_message_is_not_kept(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await http.world.created()
    monkeypatch.setattr(trace_log, "REQUESTS_KEPT", 1)
    old_id = await send(http, instance, "a", "Old")
    turn_id = await send(http, instance, "a", "x" * 40_000)
    for each in (old_id, turn_id):
        assert (await run(http, each))["turns"][0]["request"] is None


async def test_what_an_agent_replays_is_a_run(http: Api) -> None:
    instance = await http.world.created(name="fish")
    path = f"/local/instances/{instance.id}/recording"
    await http.call("PUT", path, json={"entries": {"1": ENTRY}})
    for query in ("", "?redact=true"):
        found = await run(http, "recording:fish", query)
        assert found["turns"][0]["calls"][0]["asked"] == ENTRY["asked"]
