"""A sandbox that was taken over, and what it can do to the server by how it answers: nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.app import api
from chowder_local.domain import SandboxState
from chowder_local.instances import reconcile
from chowder_local.openclaw import gateway
from chowder_local.openclaw.channels import APPROVE
from chowder_local.web.listener import with_state
from tests.scripted.gateway import DELTA, RESPONSE, STARTED
from tests.scripted.hostile import PIECE, begun, said, serve_hostile, streamed, whole
from tests.scripted.programs import REACH, done
from tests.scripted.serving import eventually, serve
from tests.scripted.world import World, open_world
from tests.web.conftest import services_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from chowder_local.domain import Instance
    from tests.scripted.hostile import HostileGateway

DEADLINE_S = 30.0
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
    "a chunk that is none": [begun(more=b"Transfer-Encoding: chunked\r\n"), b"zz\r\n{}\r\n"],
    "two lengths": [begun(more=b"Content-Length: 2\r\nContent-Length: 40\r\n"), b"{}"],
    "an end before its time": [begun(more=b"Content-Length: 1000\r\n"), b"{}"],
}


def too_long() -> dict[str, Iterable[bytes]]:
    """Each of 640 MB, if anybody read it all."""
    return {
        "without end": [begun(), *repeat(PIECE, 10_000)],
        "of a length like no other": [
            begun(more=b"Content-Length: 1%s\r\n" % (b"0" * 15)),
            *repeat(PIECE, 10_000),
        ],
        "of blanks": [begun(), *repeat(b" " * 64 * 1024, 10_000)],
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
    taken: Instance
    well: Instance

    async def say(self, instance: Instance, session: str = "main", **more: Any) -> httpx.Response:
        path = f"/v1/instances/{instance.id}/session/{session}/responses"
        return await self.client.post(path, json=MESSAGE | more)

    async def is_answered(self) -> None:
        """Fails unless the neighbour is."""
        answer = await self.say(self.well)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Victim]:
    # After each failure it looks whether the sandbox has died, for half a second.
    monkeypatch.setattr(reconcile, "CHECK_INTERVAL_S", 0.001)
    async with (
        asyncio.timeout(DEADLINE_S),
        open_world(tmp_path, suspend_timeout_s=0.2, boot_timeout_s=0.5) as world,
        serve_hostile() as (gateway, hostile_url),
    ):
        state = {"services": services_of(world)}
        well, taken = await world.created(), await world.created()
        await world.instances.change(taken.id, now=world.clock(), gateway_url=hostile_url)
        world.engine.put(taken.sandbox_id, SandboxState.RUNNING, gateway_url=hostile_url)
        headers = {"Authorization": f"Bearer {world.key}"}
        async with (
            serve(with_state(api([], _no_lifespan, world.metrics), state)) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client,
        ):
            yield Victim(world, client, gateway, taken, well)


@asynccontextmanager
async def _no_lifespan(_: object) -> AsyncIterator[Any]:
    yield {}


# Many cases a test, because a world for each would take longer than all of them.


def assert_502(answer: httpx.Response, what: str) -> None:
    assert answer.status_code == 502, (what, answer.text)
    assert answer.json()["detail"]["error"].startswith("Gateway unavailable – "), what


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_http_is_a_502(victim: Victim, stream: bool) -> None:
    for what, pieces in NOT_HTTP.items():
        victim.gateway.pieces = pieces
        assert_502(await victim.say(victim.taken, stream=stream), what)
        await victim.is_answered()


async def test_an_answer_that_is_longer_than_any_is_a_502(victim: Victim) -> None:
    for what, pieces in too_long().items():
        victim.gateway.pieces = pieces
        answer = await victim.say(victim.taken)
        assert_502(answer, what)
        assert "longer than" in answer.text
        await eventually(lambda: victim.gateway.connections == 0, "nobody listens any more")
        await victim.is_answered()


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Service Unavailable"])
async def test_what_is_no_object_of_json_is_a_502(victim: Victim, status: str) -> None:
    for what, body in NOT_JSON.items():
        victim.gateway.pieces = [whole(body, status=status)]
        assert_502(await victim.say(victim.taken), what)
    await victim.is_answered()


async def test_an_answer_in_no_shape_is_a_502(victim: Victim) -> None:
    for what, wrong in MISSHAPEN.items():
        victim.gateway.pieces = [said(RESPONSE | wrong)]
        assert_502(await victim.say(victim.taken), what)


@pytest.mark.parametrize("kind", ["response.created", "response.completed"])
async def test_a_stream_with_an_event_in_no_shape_ends_with_words(
    victim: Victim, kind: str
) -> None:
    for what, wrong in MISSHAPEN.items():
        event = {"type": kind, "response": RESPONSE | wrong}
        victim.gateway.pieces = [streamed(CREATED, DELTA, event)]
        answer = await victim.say(victim.taken, stream=True)
        assert answer.status_code == 200, what
        assert_ends_with_words(answer.text, what)


EVENTS: dict[str, Any] = {
    "text": "hello",
    "an array": [],
    "no type": {},
    "a type of types": {"type": []},
    "an end without a response": {"type": "response.completed"},
    "an end with an array": {"type": "response.completed", "response": []},
    "a beginning with nothing": {"type": "response.created", "response": None},
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
        victim.gateway.pieces = [streamed(CREATED, DELTA, content)]
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
    victim.gateway.pieces = [streamed(CREATED, DELTA), b"data: ", *repeat(PIECE, 10_000)]
    answer = await victim.say(victim.taken, stream=True)
    assert_ends_with_words(answer.text, "without end")
    await eventually(lambda: victim.gateway.connections == 0, "nobody listens to it any more")


@pytest.mark.parametrize("stream", [False, True])
async def test_half_a_character_is_no_defect(victim: Victim, stream: bool) -> None:
    event = {"type": "response.completed", "response": HALF_A_CHARACTER}
    victim.gateway.pieces = [
        streamed(CREATED, event, "[DONE]") if stream else said(HALF_A_CHARACTER)
    ]
    answer = await victim.say(victim.taken, stream=stream)
    assert answer.status_code == 200, answer.text


SILENCES: dict[str, Iterable[bytes]] = {
    "from the start": [],
    "in its headers": [b"HTTP/1.1 200 OK\r\n"],
    "in its body": [begun(), b"{"],
    "in a stream": [streamed(CREATED, DELTA)],
    "in a stream before its first event": [begun("text/event-stream"), b": \n\n"],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", SILENCES)
async def test_one_that_falls_silent_holds_up_its_own_client_alone_and_only_while_he_waits(
    victim: Victim, what: str, stream: bool
) -> None:
    victim.gateway.pieces, victim.gateway.hangs = SILENCES[what], True
    async with asyncio.TaskGroup() as group:
        # The first turns of one conversation are let in one by one.
        asking = [
            group.create_task(victim.say(victim.taken, f"s{number}", stream=stream))
            for number in range(8)
        ]
        await eventually(lambda: victim.gateway.connections == 8, "all have been asked")
        await victim.is_answered()
        for each in asking:
            each.cancel()
    await eventually(lambda: victim.gateway.connections == 0, "who left is waited for no more")
    await victim.is_answered()


async def test_one_that_hints_for_ever_is_left_with_its_client(victim: Victim) -> None:
    victim.gateway.pieces = repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(victim.say(victim.taken))
        await eventually(lambda: victim.gateway.connections == 1, "it has been asked")
        await victim.is_answered()
        asking.cancel()
    await eventually(lambda: victim.gateway.connections == 0, "who left is waited for no more")


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
    | {name: [whole(body)] for name, body in NOT_JSON.items()}
    | {f"control: {name}": [said(content)] for name, content in CONTROL.items()}
)


async def test_a_control_call_that_is_answered_with_nonsense_is_no_defect(victim: Victim) -> None:
    path = f"/v1/instances/{victim.taken.id}"
    body = {"openclaw_config": {"logging.level": "debug"}}
    for what, pieces in (EVERY_NONSENSE | too_long()).items():
        victim.gateway.pieces = pieces
        changed = await victim.client.patch(path, json=body)
        assert changed.status_code in {200, 400, 502}, (what, changed.text)
    await victim.is_answered()


@pytest.mark.parametrize("what", ["nothing", "null", "control: a payload of words"])
async def test_a_stop_needs_nothing_of_it_and_a_start_makes_it_anew(
    victim: Victim, what: str
) -> None:
    path = f"/v1/instances/{victim.taken.id}"
    victim.gateway.pieces = EVERY_NONSENSE[what]
    stopped = await victim.client.post(f"{path}/stop")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    started = await victim.client.post(f"{path}/start")
    assert (started.status_code, started.json()["status"]) == (200, "running"), started.text
    await victim.is_answered()


# Well-formed answers with members that are something else than they should be.

TELEGRAM = {"enabled": True, "botToken": "x", "dmPolicy": "pairing"}
ACCOUNT = {"accountId": "default", "running": True, "connected": False, "lastError": "no",
           "lifecycle": "ready", "stateReason": "x", "configured": True}  # fmt: skip
HONEST: dict[str, Any] = {
    "hash": "h",
    "config": {"models": {"providers": {"chowder-openai": {"models": [{"id": "m"}]}}}},
    "sourceConfig": {"channels": {"telegram": TELEGRAM, "whatsapp": {"enabled": True}}},
    "channelAccounts": {"telegram": [ACCOUNT], "whatsapp": [ACCOUNT]},
    "channelDefaultAccountId": {"telegram": "default"},
    "statusIssues": [{"channel": "telegram", "message": "no"}],
    "sentinel": {"payload": {"stats": {"requiresRestart": False}}},
    "message": "Scan this.",
    "qrDataUrl": "data:image/png;base64,AA==",
    "connected": False,
    "suspensionId": "s",
    "status": "ready",
}
SKILL = {"name": "pager", "description": "d", "source": "s", "skillKey": "pager", "filePath": "f",
         "baseDir": "b", "eligible": True, "blockedByAgentFilter": False,
         "requirements": {"env": ["A"]}, "missing": {"env": ["A"], "bins": [], "anyBins": []},
         }  # fmt: skip
ANYTHING: tuple[Any, ...] = (
    None, 7, 10**400, "\ud800", [], [7, ["\udfff"]], [[]], {}, {"telegram": 7}, {"env": [7, {}]},
)  # fmt: skip
ANSWERED = {200, 204, 400, 404, 409, 422, 502}


def spoilt(value: Any) -> Iterator[Any]:
    """The same, with anything at all in the place of each of its members."""
    yield from ANYTHING
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            for worse in spoilt(member):
                copy: Any = value.copy()
                copy[key] = worse
                yield copy


@pytest.fixture
def hasty(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> Victim:
    """It waits for nothing that the gateway only says is going to be."""
    monkeypatch.setattr(gateway, "RESTART_TIMEOUT_S", 0.0)
    monkeypatch.setattr(gateway, "LONGEST_TURN_WAIT_S", 0.0)
    monkeypatch.setattr(victim.world.channels, "_connect_timeout_s", -1.0)
    return victim


def assert_answered(answer: httpx.Response, what: Any) -> None:
    assert answer.status_code in ANSWERED, (what, answer.text)
    if answer.content:
        # As every client reads it.
        json.loads(answer.content.decode())


CHANNEL_CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "", None),
    ("GET", "/telegram/status", None),
    ("POST", "/telegram/connect", {"config": {}}),
    ("POST", "/whatsapp/connect", {"config": {"dm_policy": "pairing"}}),
    ("POST", "/telegram/disconnect", None),
)


@pytest.mark.parametrize("call", CHANNEL_CALLS, ids=lambda call: call[0] + call[1])
async def test_what_a_gateway_tells_of_channels_may_be_anything(
    hasty: Victim, call: tuple[str, str, Any]
) -> None:
    method, path, body = call
    for payload in spoilt(HONEST):
        hasty.gateway.pieces = [said({"ok": True, "payload": payload})]
        answer = await hasty.client.request(
            method, f"/v1/instances/{hasty.taken.id}/channels{path}", json=body
        )
        assert_answered(answer, payload)
    await hasty.is_answered()


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
async def test_what_a_gateway_refuses_with_may_be_anything(hasty: Victim, status: str) -> None:
    honest = {"ok": False, "error": {"code": "NO", "message": "no", "details": {"issues": []}}}
    for content in spoilt(honest):
        hasty.gateway.pieces = [whole(json.dumps(content).encode(), status=status)]
        for call in CHANNEL_CALLS:
            answer = await hasty.client.request(
                call[0], f"/v1/instances/{hasty.taken.id}/channels{call[1]}", json=call[2]
            )
            assert_answered(answer, content)
        assert_answered(await hasty.say(hasty.taken), content)
    await hasty.is_answered()


async def test_what_a_sandbox_tells_of_skills_may_be_anything(hasty: Victim) -> None:
    root = f"/v1/instances/{hasty.taken.id}/skills"
    answers = hasty.world.programs.answers
    hasty.gateway.pieces = [said({"ok": True, "payload": HONEST})]
    for content in spoilt({"ok": True, "payload": {"skills": [SKILL]}, "error": None}):
        answers["skills.status"] = [content]
        assert_answered(await hasty.client.get(root), content)
        assert_answered(await hasty.client.get(f"{root}/pager"), content)
        changed = await hasty.client.patch(f"{root}/pager", json={"enabled": True})
        assert_answered(changed, content)
    await hasty.is_answered()


async def test_what_a_sandbox_tells_of_an_installation_may_be_anything(hasty: Victim) -> None:
    root = f"/v1/instances/{hasty.taken.id}/skills"
    answers = hasty.world.programs.answers
    answers["skills.status"] = done(skills=[SKILL])
    honest = {
        REACH: {"url": "https://clawhub.ai", "status": 200, "error": None},
        "skills.install": {
            "ok": True,
            "payload": {"message": "m", "slug": "pager", "targetDir": "b", "stdout": "o"},
            "error": {"code": "UNAVAILABLE", "message": "no"},
        },
    }
    hasty.gateway.pieces = [said({"ok": True, "payload": HONEST})]
    for method in honest:
        answers |= honest
        for content in spoilt(honest[method]):
            answers[method] = [content]
            answer = await hasty.client.post(
                f"{root}/install", json={"slug": "pager", "env": {"A": "b"}}
            )
            assert_answered(answer, content)
    await hasty.is_answered()


async def test_what_a_sandbox_says_to_a_pairing_code_may_be_anything(hasty: Victim) -> None:
    path = f"/v1/instances/{hasty.taken.id}/channels/telegram/pair"
    for content in spoilt({"status": 0, "output": "Approved."}):
        hasty.world.programs.answers[APPROVE] = [content]
        assert_answered(await hasty.client.post(path, json={"code": "ABCD2345"}), content)


async def test_what_a_gateway_tells_of_its_models_may_be_anything(hasty: Victim) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    asked = [{"role": "user", "content": [image]}]
    for config in spoilt(HONEST["config"]):
        hasty.gateway.pieces = [said({"ok": True, "payload": HONEST | {"config": config}})]
        assert_answered(await hasty.say(hasty.taken, input=asked), config)
    await hasty.is_answered()
