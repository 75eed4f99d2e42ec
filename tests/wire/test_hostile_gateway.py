"""A sandbox that was taken over, and what it can do to the server by how it answers: nothing."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, product, repeat
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.app.application import api
from chowder_local.core.domain import SandboxState
from chowder_local.http.listener import with_state
from chowder_local.instances.lifecycle import reconciler
from chowder_local.openclaw import gateway as gateway_module
from chowder_local.openclaw.responses.response_normalizer import MAX_ANSWER_BYTES
from tests.scripted.gateway import DELTA, RESPONSE, STARTED
from tests.scripted.hostile import (
    PIECE,
    event_stream,
    heartbeat,
    json_response,
    response,
    response_head,
    serve_hostile,
)
from tests.scripted.serving import eventually, loopback_client, no_lifespan, serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    import httpx

    from chowder_local.core.domain import Instance
    from tests.scripted.hostile import HostileGateway

DEADLINE_S = 120.0
MESSAGE = {"model": "claude-sonnet-4", "input": "Hi"}
CREATED = {"type": "response.created", "response": STARTED}
DEEP = b"[" * 100_000
MESSAGE_ITEM: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant"}

NOT_HTTP: dict[str, Iterable[bytes]] = {
    "nothing": [],
    "noise": [bytes(range(256)) * 64],
    "another protocol": [b"SSH-2.0-OpenSSH_10.0\r\n"],
    "headers without end": [b"HTTP/1.1 200 OK\r\n", *repeat(b"X-A: b\r\n" * 1000, 100)],
    "one header without end": [b"HTTP/1.1 200 OK\r\nX-A: ", *repeat(PIECE, 100)],
    "a status line without end": [b"HTTP/1.1 200 ", *repeat(PIECE, 100)],
    "a chunk that is none": [
        response_head(more=b"Transfer-Encoding: chunked\r\n"),
        b"zz\r\n{}\r\n",
    ],
    "two lengths": [response_head(more=b"Content-Length: 2\r\nContent-Length: 40\r\n"), b"{}"],
    "an end before its time": [response_head(more=b"Content-Length: 1000\r\n"), b"{}"],
}


def too_long() -> dict[str, Iterable[bytes]]:
    """Each of 640 MB, if anybody read it all."""
    return {
        "without end": [response_head(), *repeat(PIECE, 10_000)],
        "of a length like no other": [
            response_head(more=b"Content-Length: 1%s\r\n" % (b"0" * 15)),
            *repeat(PIECE, 10_000),
        ],
        "of blanks": [response_head(), *repeat(b" " * 64 * 1024, 10_000)],
    }


NOT_JSON: dict[str, bytes] = {
    "text": b"hello",
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "no UTF-8": b'{"id": "\xff\xfe"}',
    "nested without end": b'{"output": ' + DEEP,
    "a number without end": b'{"created_at": ' + b"9" * 100_000 + b"}",
    "half": b'{"output": [',
}
MISSHAPEN: dict[str, Any] = {
    "no number": {"usage": {"input_tokens": float("nan")}},
    "infinite": {"created_at": float("inf")},
    "output of one": {"output": {}},
    "output of numbers": {"output": [1, 2]},
    "no type": {"output": [{}]},
    "a type of types": {"output": [{"type": []}]},
    "content of one": {"output": [MESSAGE_ITEM | {"content": "x"}]},
    "content of numbers": {"output": [MESSAGE_ITEM | {"content": [1]}]},
    "text of numbers": {
        "output": [MESSAGE_ITEM | {"content": [{"type": "output_text", "text": 1}]}]
    },
    "text of nothing": {
        "output": [MESSAGE_ITEM | {"content": [{"type": "output_text", "text": None}]}]
    },
    "a name of names": {"output": [{"type": "function_call", "name": []}]},
    "usage of words": {"usage": {"input_tokens": "many", "output_tokens": {}}},
    "usage of one": {"usage": []},
    "details of one": {"usage": {"input_tokens_details": 1}},
    "an id of a megabyte": {"id": "x" * 1_000_000},
    "an error of words": {"error": "no", "status": "failed"},
}
HALF_A_CHARACTER = RESPONSE | {
    "output": [MESSAGE_ITEM | {"content": [{"type": "output_text", "text": "\ud800"}]}]
}


@dataclass
class Victim:
    """A server, an agent that is well, and one that was taken over."""

    world: World
    client: httpx.AsyncClient
    gateway: HostileGateway
    hostile_url: str
    taken: Instance
    well: Instance

    async def take_over(self) -> Instance:
        """One more agent that was."""
        return await taken_over(self.world, self.hostile_url)

    async def say(self, instance: Instance, session: str = "main", **more: Any) -> httpx.Response:
        path = f"/v1/instances/{instance.id}/session/{session}/responses"
        return await self.client.post(path, json=MESSAGE | more)

    async def type_on_page(self) -> str:
        """Sends a message with the dashboard, and returns the address of its answer."""
        headers = {"HX-Request": "true", "Origin": str(self.client.base_url)}
        await self.client.post("/sign-in", data={"key": self.world.key}, headers=headers)
        page, typed = f"/instances/{self.taken.id}", {"text": "Hi", "model": "gpt-4o"}
        part = await self.client.post(f"{page}/messages", data=typed, headers=headers)
        (address,) = re.findall(r"/instances/[\w-]+/answers/[\w-]+", part.text)
        return str(address)

    async def is_answered(self) -> None:
        """Fails unless the neighbour is."""
        answer = await self.say(self.well)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Victim]:
    # After each failure it looks whether the sandbox has died, for half a second.
    monkeypatch.setattr(reconciler, "CHECK_INTERVAL_S", 0.001)
    async with open_victim(tmp_path, boot_timeout_s=0.5) as victim:
        yield victim


@asynccontextmanager
async def open_victim(tmp_path: Path, **settings: Any) -> AsyncIterator[Victim]:
    async with (
        asyncio.timeout(DEADLINE_S),
        open_world(tmp_path, drain_timeout_s=0.2, **settings) as world,
        serve_hostile() as (gateway, hostile_url),
    ):
        state = world.state
        well, taken = await world.created(), await taken_over(world, hostile_url)
        headers = {"Authorization": f"Bearer {world.key}"}
        async with (
            serve(with_state(api([], no_lifespan, world.metrics), state)) as url,
            loopback_client(base_url=url, headers=headers, timeout=DEADLINE_S) as client,
        ):
            yield Victim(world, client, gateway, hostile_url, taken, well)


async def taken_over(world: World, hostile_url: str) -> Instance:
    taken = await world.created()
    await world.instances.change(taken.id, now=world.clock(), gateway_url=hostile_url)
    world.engine.put(taken.sandbox_id, SandboxState.RUNNING, gateway_url=hostile_url)
    return taken


# Many cases a test, because a world for each would take longer than all of them.


def assert_502(answer: httpx.Response, what: str) -> None:
    assert answer.status_code == 502, (what, answer.text)
    assert answer.json()["detail"]["error"].startswith("Gateway unavailable – "), what


async def test_what_is_no_http_is_a_502(victim: Victim) -> None:
    for stream, (what, pieces) in product((False, True), NOT_HTTP.items()):
        victim.gateway.pieces = pieces
        assert_502(await victim.say(victim.taken, stream=stream), f"{what}, {stream=}")
        await victim.is_answered()


async def test_an_answer_that_is_longer_than_any_is_a_502(victim: Victim) -> None:
    for what, pieces in too_long().items():
        victim.gateway.pieces = pieces
        answer = await victim.say(victim.taken)
        assert_502(answer, what)
        assert "longer than" in answer.text
        await eventually(lambda: victim.gateway.connections == 0, "nobody listens any more")
        await victim.is_answered()


async def test_what_is_no_object_of_json_is_a_502(victim: Victim) -> None:
    statuses = ("200 OK", "400 Bad Request", "503 Service Unavailable")
    for status, (what, body) in product(statuses, NOT_JSON.items()):
        victim.gateway.pieces = [response(body, status=status)]
        assert_502(await victim.say(victim.taken), f"{what}, {status}")
    await victim.is_answered()


async def test_an_answer_in_no_shape_is_a_502(victim: Victim) -> None:
    for what, wrong in MISSHAPEN.items():
        victim.gateway.pieces = [json_response(RESPONSE | wrong)]
        assert_502(await victim.say(victim.taken), what)


async def test_a_stream_with_an_event_in_no_shape_ends_with_words(victim: Victim) -> None:
    kinds = ("response.created", "response.completed")
    for kind, (what, wrong) in product(kinds, MISSHAPEN.items()):
        event = {"type": kind, "response": RESPONSE | wrong}
        victim.gateway.pieces = [event_stream(CREATED, DELTA, event)]
        answer = await victim.say(victim.taken, stream=True)
        assert answer.status_code == 200, (kind, what)
        assert_ends_with_words(answer.text, f"{kind}: {what}")


EVENTS: dict[str, Any] = {
    "text": "hello",
    "an array": [],
    "no type": {},
    "a type of types": {"type": []},
    "an end without a response": {"type": "response.completed"},
    "an end with an array": {"type": "response.completed", "response": []},
    "a beginning with nothing": {"type": "response.created", "response": None},
    "a delta of numbers": {"type": "response.output_text.delta", "delta": 7},
    "an item of words": {"type": "response.output_item.added", "item": "x"},
    "an item without a type": {"type": "response.output_item.done", "item": {}},
    "a part of words": {"type": "response.content_part.done", "part": "x"},
    "an index of words": {
        "type": "response.output_item.added",
        "output_index": "x",
        "item": {"type": "function_call", "name": "f", "arguments": "{}"},
    },
    "nested without end": (b'{"type": ' + DEEP).decode(),
    "a number without end": '{"type": "x", "n": ' + "9" * 100_000 + "}",
}


async def test_a_stream_of_something_else_than_events_ends_with_words(victim: Victim) -> None:
    for what, content in EVENTS.items():
        victim.gateway.pieces = [event_stream(CREATED, DELTA, content)]
        answer = await victim.say(victim.taken, stream=True)
        assert answer.status_code == 200, what
        assert_ends_with_words(answer.text, what)
    await victim.is_answered()


def assert_ends_with_words(text: str, what: str) -> None:
    *events, done = [line for line in text.splitlines() if line.startswith("data: ")]
    assert done == "data: [DONE]", what
    last = [json.loads(event.removeprefix("data: "))["type"] for event in events[-2:]]
    assert last == ["error", "response.failed"], what


async def test_an_event_without_end_ends_the_stream_with_words(victim: Victim) -> None:
    victim.gateway.pieces = [event_stream(CREATED, DELTA), b"data: ", *repeat(PIECE, 10_000)]
    answer = await victim.say(victim.taken, stream=True)
    assert_ends_with_words(answer.text, "without end")
    await eventually(lambda: victim.gateway.connections == 0, "nobody listens to it any more")


async def test_words_without_end_wait_for_a_page_that_does_not_read(victim: Victim) -> None:
    words, sent = json.dumps(DELTA | {"delta": "x" * 100_000}), 0

    def deltas() -> Iterator[bytes]:
        nonlocal sent
        yield event_stream(CREATED)
        while True:
            sent += 1
            yield f"data: {words}\n\n".encode()

    victim.gateway.pieces = deltas()
    async with victim.client.stream("GET", await victim.type_on_page()):
        await eventually(lambda: sent > 0, "the answer has begun")
        before = 0
        while sent != before:
            before = sent
            # In half a second without a turn of the loop, nothing could go on.
            await asyncio.sleep(0.5)
            for _ in range(1000):
                await asyncio.sleep(0)
        # What sockets and libraries buffer; without a bound, it is as much as memory holds.
        assert sent < 1000
        assert _has(victim, 1)
    await eventually(partial(_has, victim, 0), "nobody listens any more")


async def test_half_a_character_is_no_defect(victim: Victim) -> None:
    event: dict[str, Any] = {"type": "response.completed", "response": HALF_A_CHARACTER}
    for stream, piece in (
        (True, event_stream(CREATED, event, "[DONE]")),
        (False, json_response(HALF_A_CHARACTER)),
    ):
        victim.gateway.pieces = [piece]
        answer = await victim.say(victim.taken, stream=stream)
        assert answer.status_code == 200, (stream, answer.text)
    delta = DELTA | {"delta": "Hello\ud800"}
    victim.gateway.pieces = [event_stream(CREATED, delta, event, "[DONE]")]
    page = await victim.client.get(await victim.type_on_page())
    assert "Hello?" in page.text
    assert page.text.endswith("event: done\ndata:\n\n")


async def test_an_answer_that_trickles_is_a_502(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANSWER_TIMEOUT_S", "RPC_TIMEOUT_S", "PATCH_TIMEOUT_S"):
        monkeypatch.setattr(gateway_module, name, 0.1)
    channels = f"/v1/instances/{victim.taken.id}/channels"
    for call in (partial(victim.say, victim.taken), partial(victim.client.get, channels)):
        victim.gateway.pieces = chain([response_head()], repeat(b" "))
        answer: httpx.Response = await call()
        assert answer.status_code == 502, answer.text
        assert "takes too long to answer" in answer.text
    await victim.is_answered()


async def test_a_change_of_the_configuration_ends_in_time(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "CONFIG_TIMEOUT_S", 0.1)
    restarting = {"error": {"message": "unavailable during gateway restart"}}
    victim.gateway.pieces = [response(json.dumps(restarting).encode(), status="503 Busy")]
    change = {"openclaw_config": {"logging.level": "debug"}}
    changed = await victim.client.patch(f"/v1/instances/{victim.taken.id}", json=change)
    assert changed.status_code == 502, changed.text
    assert "takes too long to answer" in changed.text


async def test_an_answer_with_an_error_is_a_502_whatever_its_status_is(victim: Victim) -> None:
    victim.gateway.pieces = [json_response(RESPONSE | {"error": {"message": "x" * 1_000_000}})]
    answer = await victim.say(victim.taken)
    assert answer.status_code == 502
    assert len(answer.text) < 10_000


def bombs(size: int) -> dict[str, bytes]:
    """Objects of JSON that are cheap to send and dear to read."""
    items = {
        "arrays": b"[]",
        "numbers": b"0",
        "items": b'{"type":""}',
        "messages": b'{"type":"message","content":[{"type":"output_text"}]}',
    }
    texts = {"half characters": b"\\ud800", "line breaks": b"\\n", "commas": b"\\\\,"}
    output = b'{"id":"r","status":"completed","output":[%b]}'
    error = b'{"error":{"message":"%b"}}'
    return {
        **{name: output % _many(each, size, b",") for name, each in items.items()},
        **{name: b'{"id":"%b"}' % _many(each, size) for name, each in texts.items()},
        "an error": error % _many(b"rate limit exceeded ", size),
        "an error of escapes": error % _many(b"\\ud800\\n", size),
    }


def _many(unit: bytes, size: int, separator: bytes = b"") -> bytes:
    return separator.join([unit] * (size // len(unit + separator)))


async def test_no_answer_holds_the_event_loop(victim: Victim) -> None:
    path = f"/v1/instances/{victim.taken.id}"
    change = {"openclaw_config": {"logging.level": "debug"}}
    for what, body in bombs(MAX_ANSWER_BYTES - 100).items():
        async with heartbeat(what):
            for status in ("200 OK", "400 Bad Request", "503 Service Unavailable"):
                victim.gateway.pieces = [response_head(status=status), *_pieces(body)]
                answer = await victim.say(victim.taken)
                changed = await victim.client.patch(path, json=change)
                assert {answer.status_code, changed.status_code} <= {200, 400, 502}, what
                assert len(changed.content) < 10_000, what
            for kind in ("response.created", "response.completed", "response.failed", "x"):
                event = b'data: {"type":"%b","response":%b}\n\n' % (kind.encode(), body)
                victim.gateway.pieces = [event_stream(CREATED, DELTA), *_pieces(event)]
                answer = await victim.say(victim.taken, stream=True)
                assert answer.status_code == 200, what
    await victim.is_answered()


def _pieces(content: bytes) -> list[bytes]:
    return [content[start : start + len(PIECE)] for start in range(0, len(content), len(PIECE))]


SILENCES: dict[str, Iterable[bytes]] = {
    "from the start": [],
    "in its headers": [b"HTTP/1.1 200 OK\r\n"],
    "in its body": [response_head(), b"{"],
    "in a stream": [event_stream(CREATED, DELTA)],
    "in a stream before its first event": [response_head("text/event-stream"), b": \n\n"],
    "but for hints": repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


async def test_one_that_falls_silent_holds_up_its_own_client_alone_and_only_while_he_waits(
    victim: Victim,
) -> None:
    victim.gateway.hangs = True
    for stream, (what, pieces) in product((False, True), SILENCES.items()):
        victim.gateway.pieces, case = pieces, f"silent {what}, {stream=}"
        async with asyncio.TaskGroup() as group:
            # The first turns of one conversation are let in one by one.
            asking = [
                group.create_task(victim.say(victim.taken, f"s{number}", stream=stream))
                for number in range(8)
            ]
            await eventually(partial(_has, victim, 8), f"{case}: all have been asked")
            await victim.is_answered()
            for each in asking:
                each.cancel()
        await eventually(partial(_has, victim, 0), f"{case}: who left is waited for no more")
        await victim.is_answered()


def _has(victim: Victim, connections: int) -> bool:
    return victim.gateway.connections == connections


ENDLESS: dict[str, Iterable[bytes]] = SILENCES | {
    "blanks": [response_head("text/event-stream"), *repeat(b" ", 1000)],
    "words": [event_stream(CREATED), *repeat(f"data: {json.dumps(DELTA)}\n\n".encode(), 1000)],
}


async def test_a_message_without_an_answer_ends_with_words_within_the_setting(
    tmp_path: Path,
) -> None:
    async with open_victim(tmp_path, turn_timeout_s=0.1) as victim:
        victim.gateway.hangs, victim.gateway.pause_s = True, 0.01
        for stream, (what, pieces) in product((False, True), ENDLESS.items()):
            victim.gateway.pieces, case = pieces, f"{what}, {stream=}"
            answer = await victim.say(victim.taken, f"s-{what}", stream=stream)
            if answer.status_code == 200:
                assert_ends_with_words(answer.text, case)
            else:
                assert_502(answer, case)
            assert "within 0.1 seconds. Send the message again." in answer.text, (case, answer.text)
        await eventually(partial(_has, victim, 0), "nobody listens any more")


async def test_a_stream_that_does_not_begin_is_a_502_long_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "STREAM_START_TIMEOUT_S", 0.5)
    async with open_victim(tmp_path) as victim:
        victim.gateway.hangs = True
        answer = await victim.say(victim.taken, stream=True)
        assert_502(answer, "silence")
        assert "no answer within 0.5 seconds. Send the message again." in answer.text


CONTROL: dict[str, Any] = {
    "an array": [],
    "no payload": {"ok": True},
    "a payload of words": {"ok": True, "payload": "x"},
    "a payload of numbers": {"ok": True, "payload": 7},
    "a hash of hashes": {"ok": True, "payload": {"hash": {}}},
    "an error of words": {"ok": False, "error": "no"},
    "an error of numbers": {"ok": False, "error": 7},
    "a sentinel of words": {"ok": True, "payload": {"hash": "x", "sentinel": "x"}},
    "stats of words": {"ok": True, "payload": {"hash": "x", "sentinel": {"payload": {"stats": 1}}}},
}


EVERY_NONSENSE = (
    NOT_HTTP
    | {name: [response(body)] for name, body in NOT_JSON.items()}
    | {f"control: {name}": [json_response(content)] for name, content in CONTROL.items()}
)


async def test_a_control_call_that_is_answered_with_nonsense_is_no_defect(victim: Victim) -> None:
    path = f"/v1/instances/{victim.taken.id}"
    body = {"openclaw_config": {"logging.level": "debug"}}
    for what, pieces in (EVERY_NONSENSE | too_long()).items():
        victim.gateway.pieces = pieces
        changed = await victim.client.patch(path, json=body)
        assert changed.status_code in {200, 400, 502}, (what, changed.text)
    await victim.is_answered()


async def test_a_stop_needs_nothing_of_it_and_a_start_makes_it_anew(victim: Victim) -> None:
    for what in ("nothing", "null", "control: a payload of words"):
        taken = victim.taken if what == "nothing" else await victim.take_over()
        path = f"/v1/instances/{taken.id}"
        victim.gateway.pieces = EVERY_NONSENSE[what]
        stopped = await victim.client.post(f"{path}/stop")
        assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped"), what
        started = await victim.client.post(f"{path}/start")
        assert (started.status_code, started.json()["status"]) == (200, "running"), started.text
        await victim.is_answered()
