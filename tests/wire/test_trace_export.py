"""Traces of messages, as an OpenTelemetry collector gets them on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from chowder_local.app.application import api
from chowder_local.core.domain import ModelProvider
from chowder_local.core.secrets import REDACTED
from chowder_local.http.listener import with_state
from chowder_local.instances.monitoring.trace_export import MAX_CONTENT, MAX_TEXT, TraceExport
from tests.scripted import gateway as scripted
from tests.scripted.serving import loopback_client, no_lifespan, serve
from tests.scripted.talking import REQUEST
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    import httpx
    from starlette.requests import Request

    from chowder_local.core.domain import Instance

SYSTEM = "Runtime: agent=main | session={} | sessionId=1 | host=agent"
TOOL = {"type": "function_call", "call_id": "c-1", "name": "exec", "arguments": '{"secret":"x"}'}
RESULT = {"type": "function_call_output", "call_id": "c-1", "output": "done with sk-ant-api03-x"}
SAID = {"type": "message", "content": [{"type": "output_text", "text": "There."}]}
COMPLETED = {"status": "completed"}
USAGE = {"input_tokens": 7, "output_tokens": 2}
MESSAGES, AT_ONCE = 200, 64
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class Collector:
    """What has come, span by span."""

    spans: list[Any] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body = ExportTraceServiceRequest.FromString(await request.body())
        for resource in body.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return Response(b"", media_type="application/x-protobuf")

    def named(self, beginning: str) -> list[Any]:
        return [each for each in self.spans if each.name.startswith(beginning)]


@dataclass
class Traced:
    """A server whose traces go to a collector once `ended`."""

    world: World
    instance: Instance
    http: httpx.AsyncClient
    collector: Collector

    def call_model(
        self,
        message: Any,
        *output: Any,
        before: Sequence[Any] = (),
        end: Mapping[str, Any] = COMPLETED,
        error: str | None = None,
    ) -> None:
        """A model call of the agent's turn, as the relay handles it; `before` are its tools."""
        key = message.headers["x-openclaw-session-key"]
        turns = [
            {"role": "developer", "content": SYSTEM.format(key)},
            {"role": "user", "content": "Earlier"},
            {"role": "user", "content": str(message.body["input"])},
            *before,
        ]
        body = json.dumps({"model": "gpt-4o", "input": turns}).encode()
        log = self.world.call_log
        call = log.begin(
            self.instance.organization_id, self.instance.id, ModelProvider.OPENAI, "responses",
            body, message.headers.get("x-turn"),
        )  # fmt: skip
        call.status = 200 if error is None else 500
        assert self.world.session_watch.note(self.instance.sandbox_id, call)
        answer = {"object": "response", "output": list(output), "usage": USAGE, **end}
        log.append(call, json.dumps(answer).encode())
        call.finish("offline" if error is None else "failed", error)

    async def say(self, session: str, **headers: str) -> None:
        path = f"/v1/instances/{self.instance.id}/session/{session}/responses"
        answer = await self.http.post(path, json=REQUEST, headers=headers)
        assert answer.is_success, answer.text


@asynccontextmanager
async def traced(tmp_path: Path, *, has_content: bool = False) -> AsyncIterator[Traced]:
    collector = Collector()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    async with open_world(tmp_path) as world, serve(app) as collector_url:
        instance = await world.created()
        export = TraceExport.open(
            collector_url, world.call_log, world.session_names.find, has_content=has_content
        )
        world.traces.export = export.turn
        state = world.state
        async with (
            serve(with_state(api([], no_lifespan, world.metrics), state)) as url,
            loopback_client(
                base_url=url, headers={"Authorization": f"Bearer {world.key}"}, timeout=60
            ) as http,
        ):
            made = Traced(world, instance, http, collector)

            async def handler(message: Any, receive: Any, send: Any) -> None:
                made.call_model(message, TOOL)
                made.call_model(message, SAID, before=(TOOL, RESULT))
                await scripted.friendly(message, receive, send)

            world.gateway.handler = handler
            yield made
            await asyncio.to_thread(export.close)


def attribute(span: Any, name: str) -> Any:
    values = {each.key: each.value for each in span.attributes}
    value = values.get(name)
    return None if value is None else getattr(value, value.WhichOneof("value"))


def finish_reasons(span: Any) -> list[str] | None:
    value = attribute(span, "gen_ai.response.finish_reasons")
    return None if value is None else [each.string_value for each in value.values]


def messages(span: Any) -> tuple[Any, Any]:
    """What was asked, and what was answered."""
    asked, said = (attribute(span, f"gen_ai.{each}.messages") for each in ("input", "output"))
    return json.loads(asked), json.loads(said)


async def test_each_message_is_one_connected_trace(tmp_path: Path) -> None:
    async with traced(tmp_path) as made:
        limit = asyncio.Semaphore(AT_ONCE)

        async def say(number: int) -> None:
            async with limit:
                await made.say(f"s{number}")

        await asyncio.gather(*map(say, range(MESSAGES)))
    spans = made.collector.spans
    by_trace = Counter(each.trace_id for each in spans)
    assert len(by_trace) == MESSAGES
    # The call, the turn, two model calls and a tool.
    assert set(by_trace.values()) == {5}
    by_id = {each.span_id: each for each in spans}
    roots = [each for each in spans if each.parent_span_id not in by_id]
    assert len(roots) == MESSAGES
    assert {each.name for each in roots} == {
        "POST /v1/instances/{instance_id}/session/{session_id}/responses"
    }
    conversations = {attribute(each, "gen_ai.conversation.id") for each in spans}
    assert len(conversations - {None}) == MESSAGES
    for each in spans:
        if parent := by_id.get(each.parent_span_id):
            assert parent.trace_id == each.trace_id
            assert parent.start_time_unix_nano <= each.start_time_unix_nano
        assert each.start_time_unix_nano <= each.end_time_unix_nano


async def test_the_trace_of_the_client_goes_on_and_has_no_content(tmp_path: Path) -> None:
    async with traced(tmp_path) as made:
        await made.say("a", traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01")
    spans = made.collector.spans
    assert {each.trace_id.hex() for each in spans} == {TRACE_ID}
    (call,) = made.collector.named("POST")
    assert call.parent_span_id.hex() == "00f067aa0ba902b7"
    first, _ = made.collector.named("chat gpt-4o")
    assert attribute(first, "gen_ai.usage.input_tokens") == 7
    (tool,) = made.collector.named("execute_tool exec")
    assert attribute(tool, "gen_ai.tool.call.id") == "c-1"
    assert "secret" not in str(spans)
    assert not [
        each for each in ("Hello there.", ".messages", ".value", "result") if each in str(spans)
    ]


async def test_a_trace_names_the_agent_its_conversation_and_how_each_step_ended(
    tmp_path: Path,
) -> None:
    async with traced(tmp_path) as made:
        await made.say("a")
        name, instance_id = made.instance.name, made.instance.id
    (request,) = made.collector.named("POST")
    assert attribute(request, "http.response.status_code") == 200
    (agent,) = made.collector.named("invoke_agent")
    assert (agent.name, attribute(agent, "gen_ai.agent.name")) == (f"invoke_agent {name}", name)
    assert attribute(agent, "gen_ai.provider.name") == "openai"
    steps = [*made.collector.named("chat"), *made.collector.named("execute_tool")]
    assert {attribute(each, "gen_ai.conversation.id") for each in (agent, *steps)} == {
        f"{instance_id}/a"
    }
    reasons = [finish_reasons(each) for each in made.collector.named("chat")]
    assert reasons == [["tool_call"], ["stop"]]
    assert not [each for each in made.collector.spans if attribute(each, "error.type")]


async def test_contents_are_the_messages_of_the_turn_as_json_without_secrets(
    tmp_path: Path,
) -> None:
    async with traced(tmp_path, has_content=True) as made:
        await made.say("a")
    (agent,) = made.collector.named("invoke_agent")
    asked = {"role": "user", "parts": [{"type": "text", "content": "Hi"}]}
    text = {"type": "text", "content": "Hello there."}
    said = {"role": "assistant", "parts": [text], "finish_reason": "stop"}
    assert messages(agent) == ([asked], [said])
    for each in (agent, *made.collector.named("POST")):
        assert attribute(each, "input.value") == "Hi"
        assert attribute(each, "output.value") == "Hello there."
    first, second = made.collector.named("chat")
    called = {"type": "tool_call", "id": "c-1", "name": "exec", "arguments": {"secret": "x"}}
    calling = {"role": "assistant", "parts": [called]}
    assert messages(first) == ([asked], [calling | {"finish_reason": "tool_call"}])
    result = f"done with {REDACTED}"
    response = {"type": "tool_call_response", "id": "c-1", "response": result}
    text = {"type": "text", "content": "There."}
    assert messages(second) == (
        [asked, calling, {"role": "tool", "parts": [response]}],
        [{"role": "assistant", "parts": [text], "finish_reason": "stop"}],
    )
    (tool,) = made.collector.named("execute_tool")
    assert attribute(tool, "gen_ai.tool.call.arguments") == '{"secret": "x"}'
    assert attribute(tool, "gen_ai.tool.call.result") == result


async def test_long_contents_are_cut_and_the_latest_stay(tmp_path: Path) -> None:
    async with traced(tmp_path, has_content=True) as made:
        results = [RESULT | {"output": f"{number} " + "x" * 2 * MAX_TEXT} for number in range(9)]

        async def handler(message: Any, receive: Any, send: Any) -> None:
            made.call_model(message, SAID, before=results)
            await scripted.friendly(message, receive, send)

        made.world.gateway.handler = handler
        await made.say("a")
    (call,) = made.collector.named("chat")
    assert len(attribute(call, "gen_ai.input.messages")) <= MAX_CONTENT + len(results) * 4
    asked, _ = messages(call)
    assert [each["parts"][0]["response"][0] for each in asked] == ["6", "7", "8"]


async def test_a_turn_that_fails_is_an_error(tmp_path: Path) -> None:
    async with traced(tmp_path) as made:

        async def handler(message: Any, receive: Any, send: Any) -> None:
            cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
            made.call_model(message, SAID, end=cut)
            made.call_model(message, end={"error": {"message": "Down."}}, error="Down.")
            await scripted.failing(500, {"error": {"message": "broken"}})(message, receive, send)

        made.world.gateway.handler = handler
        path = f"/v1/instances/{made.instance.id}/responses"
        assert (await made.http.post(path, json=REQUEST)).status_code == 502
    (request,) = made.collector.named("POST /v1/instances/{instance_id}/responses")
    (agent,) = made.collector.named("invoke_agent")
    assert (request.status.code, attribute(request, "http.response.status_code")) == (2, 502)
    code = "gateway_unavailable"
    assert [attribute(each, "error.type") for each in (request, agent)] == [code, code]
    cut, failed = made.collector.named("chat")
    assert (finish_reasons(cut), attribute(cut, "error.type")) == (["length"], None)
    assert (finish_reasons(failed), attribute(failed, "error.type")) == (None, "failed")
    assert attribute(failed, "http.response.status_code") == 500


async def test_a_stream_that_fails_within_its_answer_is_an_error_of_an_accepted_request(
    tmp_path: Path,
) -> None:
    async def handler(message: Any, receive: Any, send: Any) -> None:
        failed = scripted.STARTED | {"status": "failed", "error": {"message": "broken"}}
        await scripted.begin(send, 200, "text/event-stream")
        await scripted.events(
            send, {"type": "response.created", "response": scripted.STARTED}, scripted.DELTA
        )
        await scripted.events(send, {"type": "response.failed", "response": failed}, "[DONE]")
        await scripted.end(send)

    async with traced(tmp_path) as made:
        made.world.gateway.handler = handler
        path = f"/v1/instances/{made.instance.id}/responses"
        answer = await made.http.post(path, json=REQUEST | {"stream": True})
        assert answer.status_code == 200
    (request,) = made.collector.named("POST")
    assert (request.status.code, attribute(request, "http.response.status_code")) == (2, 200)
    assert attribute(request, "error.type") == "gateway_unavailable"


async def test_a_collector_that_is_away_delays_no_message(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        instance = await world.created()
        # Nothing listens on port 9 of the loopback.
        away = TraceExport.open(
            "http://127.0.0.1:9", world.call_log, world.session_names.find, has_content=False
        )
        with closing(away) as export:
            world.traces.export = export.turn
            async with asyncio.timeout(5):
                assert await world.conversations.respond(instance, REQUEST)
            world.traces.export = None
