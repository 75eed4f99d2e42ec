"""Traces of messages, as an OpenTelemetry collector gets them on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from chowder_local.app.application import api
from chowder_local.core.domain import ModelProvider
from chowder_local.http.listener import with_state
from chowder_local.instances.monitoring.trace_export import TraceExport
from tests.scripted import gateway as scripted
from tests.scripted.serving import loopback_client, no_lifespan, serve
from tests.scripted.talking import REQUEST
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    from starlette.requests import Request

    from chowder_local.core.domain import Instance

SYSTEM = "Runtime: agent=main | session={} | sessionId=1 | host=agent"
TOOL = {"type": "function_call", "call_id": "c-1", "name": "exec", "arguments": '{"secret":"x"}'}
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

    def call_model(self, message: Any, *output: Any) -> None:
        """A model call of the agent's turn, as the relay handles it."""
        key = message.headers["x-openclaw-session-key"]
        turns = [
            {"role": "developer", "content": SYSTEM.format(key)},
            {"role": "user", "content": str(message.body["input"])},
        ]
        body = json.dumps({"model": "gpt-4o", "input": turns}).encode()
        log = self.world.call_log
        call = log.begin(
            self.instance.organization_id, self.instance.id, ModelProvider.OPENAI, "responses",
            body, message.headers.get("x-turn"),
        )  # fmt: skip
        call.status = 200
        assert self.world.session_watch.note(self.instance.sandbox_id, call)
        answer = {"object": "response", "output": list(output), "usage": USAGE}
        log.append(call, json.dumps(answer).encode())
        call.finish("offline")

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
        export = TraceExport.open(collector_url, world.call_log, has_content=has_content)
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
                made.call_model(message)
                await scripted.friendly(message, receive, send)

            world.gateway.handler = handler
            yield made
            await asyncio.to_thread(export.close)


def attribute(span: Any, name: str) -> Any:
    values = {each.key: each.value for each in span.attributes}
    value = values.get(name)
    return None if value is None else getattr(value, value.WhichOneof("value"))


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
    assert "Hi" not in [attribute(first, "gen_ai.input.messages")]


async def test_content_is_there_if_it_is_asked_for(tmp_path: Path) -> None:
    async with traced(tmp_path, has_content=True) as made:
        await made.say("a")
    (tool,) = made.collector.named("execute_tool")
    assert attribute(tool, "gen_ai.tool.call.arguments") == '{"secret": "x"}'


async def test_a_turn_that_fails_is_an_error(tmp_path: Path) -> None:
    async with traced(tmp_path) as made:
        made.world.gateway.handler = scripted.failing(500, {"error": {"message": "broken"}})
        path = f"/v1/instances/{made.instance.id}/responses"
        assert not (await made.http.post(path, json=REQUEST)).is_success
    (call,) = made.collector.named("POST /v1/instances/{instance_id}/responses")
    assert call.status.code == 2


@pytest.mark.slow
async def test_a_collector_that_is_away_delays_no_message(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        instance = await world.created()
        # Nothing listens on port 9 of the loopback.
        away = TraceExport.open("http://127.0.0.1:9", world.call_log, has_content=False)
        with closing(away) as export:
            world.traces.export = export.turn
            async with asyncio.timeout(5):
                assert await world.conversations.respond(instance, REQUEST)
            world.traces.export = None
