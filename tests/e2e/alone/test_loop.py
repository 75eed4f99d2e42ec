"""Nothing that an agent or a client sends holds the event loop: all others go on meanwhile.

Each route and each path of the relay gets the longest bodies that it takes, in the shapes that cost
the most, while a heartbeat on the loop measures how long it stands still.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import tarfile
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from chowder_local.api.operations import IN_PATH
from chowder_local.api.schemas.history import ENTRIES_MAX
from chowder_local.app.application import api
from chowder_local.app.relay_app import MAX_BODY_BYTES as RELAY_BODY_BYTES
from chowder_local.core.domain import OFFLINE_KEY, ModelProvider
from chowder_local.core.settings import Settings
from chowder_local.engine.volume_archives import OUTPUT_MB
from chowder_local.features.front import all_operations
from chowder_local.http.bodies import JSON, UNCOUNTED_BYTES, VALUES_MAX
from chowder_local.http.listener import with_state
from chowder_local.instances.snapshots.exports import FORMAT, manifest_entry
from chowder_local.openclaw.gateway import MAX_RPC_BYTES
from chowder_local.openclaw.home.sanitize import MAX_EXTENSION_BYTES
from chowder_local.openclaw.responses.response_normalizer import MAX_ANSWER_BYTES
from chowder_local.relay.call_log import MAX_BYTES
from chowder_local.relay.prompt_format import ANY_TOOL
from tests.scripted.answers import MESSAGE
from tests.scripted.gateway import RESPONSE
from tests.scripted.homes import archive
from tests.scripted.hostile import json_response, response
from tests.scripted.programs import done
from tests.scripted.serving import no_lifespan, serve
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from tests.scripted.world import World

# Beside others it would measure their caches, too.
pytestmark = pytest.mark.nightly

SHORT_S = 0.1
LONGEST = 90.0
"""How long the loop may stand still, in times of the yardstick.

The longest bodies take up to 70, where all is as it should be; work that grows with the square of
them takes thousands.
"""
UPLOAD_BYTES = 16 * 1024 * 1024
OUTPUT_BYTES = 2 * OUTPUT_MB * 1024 * 1024
BEAT_S = 0.002
PIECE_BYTES = 256 * 1024
API_BODY_BYTES: int = Settings.model_fields["max_body_bytes"].default
CHAT = "/openai/chat/completions"
MULTIPART = "multipart/form-data"


def yardstick_s() -> float:
    """What this machine takes, just now, to parse two megabytes and a half of JSON."""
    body = json.dumps([{"number": n, "text": "text " * 4} for n in range(50_000)])
    times = []
    for _ in range(3):
        began_s = time.process_time()
        json.loads(body)
        times.append(time.process_time() - began_s)
    return sorted(times)[1]


class Heartbeat:
    """Measures the longest time between two ticks on the loop.

    In processor time of the process, because other processes of a busy machine do not count.
    """

    def __init__(self) -> None:
        self.stalls: dict[str, float] = {}
        """The longest ones, in times of the yardstick."""
        self.longest_s = 0.0

    async def beat(self) -> None:
        while True:
            before_s = time.process_time()
            await asyncio.sleep(BEAT_S)
            self.longest_s = max(self.longest_s, time.process_time() - before_s)

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Sets `longest_s` to that of the block."""
        # The tick in progress has the time in which the test made its body.
        await asyncio.sleep(2 * BEAT_S)
        self.longest_s = 0.0
        yield
        await asyncio.sleep(2 * BEAT_S)

    def note(self, what: str, stall_s: float) -> None:
        # Right after it: how fast a machine is that others use, too, changes within minutes.
        stall = stall_s / yardstick_s() if stall_s > SHORT_S else 0.0
        self.stalls[what] = max(stall, self.stalls.get(what, 0.0))

    def check(self) -> None:
        """Fails if the loop has stood still for too long."""
        longest = sorted(self.stalls.items(), key=lambda item: -item[1])
        report = "\n".join(f"{stall:7.1f} ×  {what}" for what, stall in longest)
        # Shown with `pytest -s`, for the figures.
        print(f"\n{report}")  # noqa: T201
        assert longest[0][1] < LONGEST, report


@dataclass
class Provider:
    """A gateway and a model provider. It does not parse what it gets, as another process would."""

    answers: list[bytes] = field(default_factory=lambda: [json_response(RESPONSE)])
    """One for each call, and the last for all others."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while left > 0 and (piece := await reader.read(PIECE_BYTES)):
            left -= len(piece)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for start in range(0, len(answer), PIECE_BYTES):
            writer.write(answer[start : start + PIECE_BYTES])
            await writer.drain()
        writer.close()


@dataclass
class Target:
    """A server with an instance, and its relay; the key of OpenAI and Gemini is `offline`."""

    world: World
    provider: Provider
    heartbeat: Heartbeat
    url: str
    relay_url: str
    instance: Instance
    session: str = ""
    """The cookie."""

    @property
    def path(self) -> str:
        return f"/local/instances/{self.instance.id}"

    async def call(
        self, what: str, method: str, path: str, body: bytes = b"", kind: str = JSON
    ) -> bytes:
        headers = f"Content-Type: {kind}\r\n"
        return await self._send(what, self.url, method, path, body, self.world.key, headers)

    async def sign_in(self) -> None:
        """Opens a session of the dashboard, for `submit`."""
        key = urlencode({"key": self.world.key}).encode()
        answer = await self._send("", self.url, "POST", "/sign-in", key, "", self._as_page())
        self.session = answer.partition(b"set-cookie: ")[2].partition(b";")[0].decode()

    async def submit(self, what: str, path: str, form: dict[str, str]) -> bytes:
        """Sends a form of the dashboard, or shows the page if the form is empty."""
        method, body = ("POST", urlencode(form).encode()) if form else ("GET", b"")
        return await self._send(what, self.url, method, path, body, "", self._as_page())

    async def load(self, what: str, recording: bytes) -> bytes:
        """Sends a form of the dashboard with a recording."""
        headers, path = (
            self._as_page(f"{MULTIPART}; boundary=x"),
            f"/replies/recordings/{self.instance.id}/load",
        )
        answer = await self._send(what, self.url, "POST", path, recording, "", headers)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 422", b"HTTP/1.1 413")), answer[:300]
        return answer

    def _as_page(self, kind: str = "application/x-www-form-urlencoded") -> str:
        return (
            f"Content-Type: {kind}\r\n"
            f"HX-Request: true\r\nOrigin: {self.url}\r\nCookie: {self.session}\r\n"
        )

    async def call_relay(self, what: str, path: str, body: bytes) -> bytes:
        token = self.world.secret_box.relay_token(str(self.instance.sandbox_id))
        return await self._send(what, self.relay_url, "POST", path, body, token)

    async def _send(
        self,
        what: str,
        url: str,
        method: str,
        path: str,
        body: bytes,
        key: str,
        headers: str = f"Content-Type: {JSON}\r\n",
    ) -> bytes:
        """Sends a request and reads its whole answer, with little work on the loop."""
        shown = f"{method} {path.replace(str(self.instance.id), '{instance_id}')}: {what}"
        answer, stall_s = await self._send_once(url, method, path, body, key, headers)
        self.heartbeat.note(shown, stall_s)
        # The answer of a server that closed the connection early may be lost.
        assert not answer.startswith(b"HTTP/1.1 500"), shown
        return answer

    async def _send_once(
        self, url: str, method: str, path: str, body: bytes, key: str, headers: str
    ) -> tuple[bytes, float]:
        host, port = url.removeprefix("http://").split(":")
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
            f"x-api-key: {key}\r\n{headers}Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        async with self.heartbeat.measuring():
            reader, writer = await asyncio.open_connection(host, int(port))
            reading = asyncio.create_task(_whole(reader))
            # A server that refuses a long body may close the connection before its end.
            with suppress(ConnectionError):
                writer.write(head.encode())
                for start in range(0, len(body), PIECE_BYTES):
                    writer.write(body[start : start + PIECE_BYTES])
                    await writer.drain()
            answer = await reading
            writer.close()
        return answer, self.heartbeat.longest_s


async def _whole(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    with suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    heartbeat, provider = Heartbeat(), Provider()
    async with (
        await asyncio.start_server(provider.handle, "127.0.0.1", 0) as listener,
        asyncio.TaskGroup() as tasks,
    ):
        provider_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with (
            open_world(
                tmp_path, max_body_bytes=API_BODY_BYTES, anthropic_base_url=provider_url
            ) as world,
            serve(with_state(api([], no_lifespan, world.metrics), world.state))
            as url,
            serve(world.relay_app) as relay_url,
        ):  # fmt: skip
            await world.organizations.change(
                world.organization_id, model_api_keys={ModelProvider.GEMINI: OFFLINE_KEY}
            )
            instance = await world.created()
            await world.instances.change(instance.id, now=world.clock(), gateway_url=provider_url)
            beating = tasks.create_task(heartbeat.beat())
            yield Target(world, provider, heartbeat, url, relay_url, instance)
            beating.cancel()


def filled(unit: str, size_bytes: int) -> str:
    """A text of that unit that has at most `size_bytes` in JSON."""
    return unit * (size_bytes // len(json.dumps(unit, ensure_ascii=False).encode()[1:-1]))


def function(parameters: dict[str, Any], name: str = "f") -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


CITY = function({"properties": {"city": {"type": "string"}}, "required": ["city"]})


def chat(user: str, system: str = "", tools: Any = (CITY,), **more: Any) -> bytes:
    body = {
        "model": "gpt-x",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "tools": [{"type": "function", "function": each} for each in tools],
        "tool_choice": "required",
    }
    return json.dumps(body | more, ensure_ascii=False).encode()


def messages(user: str, system: str = "") -> bytes:
    body = {
        "model": "claude-x",
        "max_tokens": 9,
        "system": system,
        "messages": [{"role": "user", "content": user}],
        "tools": [{"name": "f", "input_schema": {}}],
    }
    return json.dumps(body, ensure_ascii=False).encode()


def contents(user: str, system: str = "") -> bytes:
    body = {
        "contents": [{"role": "user", "parts": [{"text": user}]}],
        "systemInstruction": {"parts": [{"text": system}]},
    }
    return json.dumps(body, ensure_ascii=False).encode()


def responses(user: str, system: str = "") -> bytes:
    body = {"model": "gpt-x", "instructions": system, "input": user}
    return json.dumps(body, ensure_ascii=False).encode()


PATHS: dict[str, Callable[[str, str], bytes]] = {
    CHAT: chat,
    "/openai/responses": responses,
    "/anthropic/v1/messages": messages,
    "/gemini/models/gemini-x:generateContent": contents,
}
TEXTS = {
    "nested objects": '{"a":',
    "braces": "{",
    "calls": "call zz\n",
    "calls with objects": 'call f {"a":[\n',
    "runtime lines": "Runtime: agent=a | session=",
    "paragraphs of runtime lines": "\n\nRuntime: agent=",
    "opening quotes": "\u201c",
    "capitals": "A ",
    "internal context": "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",
    "speakers": "Tool:x: a\nUser: \n",
    "queued messages": "[Queued user message ]\n",
    "tooling": "## Tooling\n- a\n",
    "demands": "You must call the ",
    "blanks": " ",
    "control characters": "\x00",
    "dates": "2026-01-01T00:00 ",
}
PROMPT_BYTES = 3_800_000
"""Nearly the longest prompt that the offline model reads."""


async def test_no_text_of_a_prompt_holds_the_loop(target: Target) -> None:
    for what, unit in TEXTS.items():
        text = filled(unit, PROMPT_BYTES)
        await target.call_relay(f"{what} in a message", CHAT, chat(text))
        system = f"OpenClaw\n## Tooling\n{text}"
        await target.call_relay(f"{what} in the system prompt", CHAT, chat("Hi", system))
    target.heartbeat.check()


async def test_no_model_call_of_the_longest_body_holds_the_loop(target: Target) -> None:
    size_bytes = RELAY_BODY_BYTES - 10_000
    runtime = filled(TEXTS["runtime lines"], size_bytes)
    for path, body in PATHS.items():
        nested = body(filled('{"a":', size_bytes), ANY_TOOL)
        await target.call_relay("nested objects", path, nested)
        await target.call_relay("runtime lines", path, body("Hi", ANY_TOOL + runtime))
    # Which a client then reads.
    (call,) = target.world.call_log.latest().values()
    await target.call("the longest call", "GET", f"/local/model-calls/{call.id}")
    for what, (path, sent) in awkward_calls():
        await target.call_relay(what, path, sent)
    target.heartbeat.check()


VECTORS: dict[str, dict[str, Any]] = {
    "many": {"input": ["a"] * 400_000},
    "long": {"dimensions": 10**9},
}


def branching(width: int) -> dict[str, Any]:
    """A schema whose properties all refer to itself."""
    names = [f"p{number}" for number in range(width)]
    return {"properties": {name: {"$ref": "#"} for name in names}, "required": names}


def awkward_calls() -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Model calls by what is awkward in them."""
    lines = "call f1\n" * 100_000
    message = {"role": "user", "content": "a"}
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}] * (VALUES_MAX // 6)}
    functions = [function({}, f"f{number}") for number in range(20_000)]
    yield "many tools", (CHAT, chat(lines, tools=functions))
    yield "many calls", (CHAT, chat(lines, tools=[function(branching(50), "f1")]))
    yield "many messages", (CHAT, chat("", messages=[message] * (VALUES_MAX // 6)))
    yield "many parts", (CHAT, chat("", messages=[parts]))
    for what, schema in {
        "many properties": branching(40_000),
        "a long array": {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}},
        "a long string": {"type": "string", "minLength": 10**10},
        "a choice of many": {"anyOf": [{}] * (VALUES_MAX // 4)},
        "a sum of many": {"allOf": [{"$ref": "#"}] * (VALUES_MAX // 6)},
        "a long constant": {"const": "x" * 1_000_000},
        "a long name": {"$ref": "#/" + "a/" * 1_000_000},
    }.items():
        names = [f"p{number}" for number in range(9)]
        parameters = {"properties": {name: {"$ref": "#/x"} for name in names}, "x": schema}
        tools = [function({**parameters, "required": names})]
        yield f"a schema with {what}", (CHAT, chat("Hi", tools=tools))
    for what, more in VECTORS.items():
        yield f"{what} vectors", ("/openai/embeddings", json.dumps({"input": "a"} | more).encode())


async def test_no_recording_and_no_scripted_reply_holds_the_loop(target: Target) -> None:
    asked = {"provider": "openai", "model": "gpt-x", "is_streamed": False}

    async def record(what: str, entries: dict[str, Any]) -> None:
        body = json.dumps({"entries": entries}).encode()
        answer = await target.call(what, "PUT", f"{target.path}/recording", body)
        assert answer.startswith(b"HTTP/1.1 200"), answer[:300]

    events = {"status": 200, "content_type": "text/event-stream"}
    turns = [{"said": f"2026-01-01T00:00:00Z {'call-' * 100}"}] * 5
    await record(
        "many calls",
        {
            f"{number}.json": {"asked": asked | {"turns": turns}, "answered": events}
            for number in range(ENTRIES_MAX)
        },
    )
    await target.call_relay("a call that the recording lacks", CHAT, chat("1\n" * 1_000_000))
    long = MAX_BYTES // 6
    for what, unit, size_bytes in (
        ("dates", "2026-01-01T00:00:00Z ", long),
        ("usage", '"usage":{', long),
        # More would take as long for each megabyte.
        ("empty events", ":\n\n", 500_000),
    ):
        text = filled(unit, size_bytes)
        said = asked | {"turns": [{"said": "Hi"}, {"answered": text}]}
        hi = asked | {"turns": [{"said": "Hi"}]}
        await record(
            f"a text of {what}",
            {
                "1.json": {"asked": said, "answered": events},
                "2.json": {"asked": hi, "answered": events | {"text": text}},
            },
        )
        await target.call_relay(f"an answer of {what}", CHAT, chat("Hi"))
    await target.call("", "DELETE", f"{target.path}/recording")
    message = "maximum context length is 1 tok " * 5 + "1" * 20_000
    replies = {"replies": [{"reply": {"error": 400, "message": message}}]}
    put = await target.call(
        "an error", "PUT", f"{target.path}/replies", json.dumps(replies).encode()
    )
    assert put.startswith(b"HTTP/1.1 200"), put
    runtime = "Runtime: agent=main | session=agent:main:main | sessionId=1"
    answer = await target.call_relay("an error of the script", CHAT, chat("Hi", runtime))
    assert b"relay-failure" in answer
    target.heartbeat.check()


async def test_no_route_holds_the_loop(target: Target) -> None:
    for each in all_operations():
        if isinstance(each.body, type) and each.body_type == JSON:
            path = IN_PATH.sub("x", each.path.replace("{instance_id}", str(target.instance.id)))
            for what, body in awkward_bodies(list(each.body.model_fields)):
                await target.call(what, each.method, path, body)
    target.heartbeat.check()


async def test_no_upload_and_no_archive_holds_the_loop(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    await target.sign_in()
    upload = f"/v1/instances/{target.instance.id}/files/upload"
    head = '--x\r\nContent-Disposition: form-data; name="%s"\r\n'
    part, file = f"{head % 'path'}\r\na\r\n", f"{head % 'file'}\r\n"
    for what, begin, unit in (
        ("near boundaries", part + file, "\r\n--"),
        ("headers", part + head % "file", "a: b\r\n"),
        ("parts", part, f"{file}\r\n"),
        ("boundaries", "", "--x\r\n"),
    ):
        body = (begin + filled(unit, UPLOAD_BYTES)).encode()
        await target.call(what, "POST", upload, body, f"{MULTIPART}; boundary=x")
        await target.load(what, body)
    values = "0," * (VALUES_MAX - 100)
    for what, text in {"values": values, "nested arrays": "[" * UPLOAD_BYTES}.items():
        body = f'{file}\r\n{{"entries":{{"a":[{text}0]}}}}\r\n--x--\r\n'.encode()
        await target.load(what, body)
    for what, body in {"zeros": bytes(UPLOAD_BYTES), **dict(bombs())}.items():
        kind, path = "application/octet-stream", "/local/instances/import"
        answer = await target.call(what, "POST", path, body, kind)
        assert answer.startswith(b"HTTP/1.1 400"), (what, answer[:300])
    bomb = gzip.compress(b'{"entries":{"' + bytes(API_BODY_BYTES))
    recording = f"{target.path}/recording"
    await target.call("a bomb", "PUT", recording, bomb, f"{JSON}\r\nContent-Encoding: gzip")
    await target.call_relay("a bomb", CHAT, bomb)
    assert 0 < len(caplog.text) < 10_000
    target.heartbeat.check()


def bombs() -> Iterator[tuple[str, bytes]]:
    """Archives of agents, with what is awkward in their homes; all are refused, some at the end."""
    manifest = manifest_entry(json.dumps({"format": FORMAT, "version": 1}).encode())
    yield "a compressed home", manifest + gzip.compress(bytes(UPLOAD_BYTES))
    yield "a compressed archive", gzip.compress(manifest + bytes(UPLOAD_BYTES))
    names = (f".openclaw/workspace/{number}" for number in range(UPLOAD_BYTES // 2000))
    device = tarfile.TarInfo("data/device")
    device.type = tarfile.CHRTYPE
    home = archive(dict.fromkeys(names, b""), device)
    yield "files", manifest + home
    begin = home[: tarfile.BLOCKSIZE]
    for what, kind, content in (
        ("extensions", tarfile.XHDTYPE, b"6 a=b\n" * (MAX_EXTENSION_BYTES // 6)),
        ("long names", tarfile.GNUTYPE_LONGNAME, b"a/" * (MAX_EXTENSION_BYTES // 2)),
    ):
        entry = tarfile.TarInfo("data/x")
        entry.type, entry.size = kind, len(content)
        padded = content + bytes(-len(content) % tarfile.BLOCKSIZE)
        each = entry.tobuf(tarfile.GNU_FORMAT) + padded
        yield what, manifest + begin + each * (UPLOAD_BYTES // len(each)) + home[len(begin) :]


async def test_no_report_of_an_upgrade_check_holds_the_loop(target: Target) -> None:
    world, ask = target.world, json.dumps({"to": "2026.9.7", "dry_run": True}).encode()
    home = archive({"data/.openclaw/agents/main/sessions/a.json": b""})
    world.engine.put_home(target.instance.sandbox_id, home)
    lines = '{"message":"' + "\\n" * 300 + '"},'
    halves = '{"message":"' + "\\ud800" * (OUTPUT_BYTES // 6) + '"},'
    for what, findings in {
        "findings": filled("{},", OUTPUT_BYTES),
        "arrays": filled("[[],", OUTPUT_BYTES),
        "lines": lines * (OUTPUT_BYTES // len(lines)),
        "half characters": halves,
    }.items():
        world.engine.examinations["2026.9.7"] = f'{{"findings":[{findings}0]}}'.encode()
        answer = await target.call(what, "POST", f"{target.path}/upgrade", ask)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 502")), answer[:300]
    target.heartbeat.check()


def awkward_bodies(names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Bodies for a model with these members, by what is awkward in them."""

    def with_each(value: Any) -> bytes:
        return json.dumps(dict.fromkeys(names, value)).encode()

    yield "a long text", with_each("x" * ((API_BODY_BYTES - 10_000) // len(names)))
    # Most of its members are errors.
    count = VALUES_MAX // 3 // len(names) - 10
    yield "many objects", with_each({f"a{number}": {} for number in range(count)})
    yield "nested arrays", b"[" * UNCOUNTED_BYTES


def nested(inner: str, levels: int = 190) -> str:
    return '{"a":' * levels + inner + "}" * levels


NAMES = ",".join(f'"k{number}":0' for number in range(20_000))
DOCUMENTS = {
    "more levels than are read": nested("0", 100_000),
    "many values on many levels": nested(f"[{'0,' * 100_000}0]"),
    "many names on many levels": nested(f"{{{NAMES}}}"),
    "many names": f"{{{NAMES}}}",
    "a long name above many": '{"' + "k" * 50_000 + '":{' + NAMES + "}}",
    "one name many times": '{"a":0' + ',"a":0' * 30_000 + "}",
    "a number of many digits": '{"a":' + "9" * 10_000 + "}",
    "a number without a float": '{"a":1e999}',
    "no number": '{"a":NaN}',
    "half of a character": '{"a":"\\ud800"}',
}


async def test_no_document_holds_the_loop_or_is_a_defect(target: Target) -> None:
    await target.sign_in()
    config = f"/instances/{target.instance.id}/config"
    assert (await target.submit("", "/replies", {})).startswith(b"HTTP/1.1 200")
    # The gateway takes each change.
    payload = {"hash": "h", "sourceConfig": {}, "sentinel": {"payload": {"stats": {}}}}
    target.provider.answers = [json_response({"ok": True, "payload": payload})]
    for what, document in DOCUMENTS.items():
        await target.submit(what, f"{config}/check", {"document": document, "before": "{}"})
        await target.submit(what, f"{config}/check", {"document": "{}", "before": document})
        change = f'{{"openclaw_config":{document}}}'.encode()
        for _ in range(2):
            await target.call(what, "PATCH", f"/v1/instances/{target.instance.id}", change)
        rule = f'{{"replies":[{{"reply":{{"call":"exec","arguments":{document}}}}}]}}'
        await target.submit(what, "/replies/script", {"text": rule})
        await target.submit(what, "/replies", {})
        await target.call(what, "GET", "/local/replies")
        await target.call(what, "PUT", "/local/replies", rule.encode())
        await target.submit(what, "/replies", {})
        await target.call_relay(what, CHAT, chat("Hi")[:-1] + f',"x":{document}}}'.encode())
        (call,) = target.world.call_log.latest().values()
        await target.call(what, "GET", f"/local/model-calls/{call.id}")
        page = await target.submit(what, f"/model-calls/{call.id}", {})
        assert len(page) < 50 * len(document) + 100_000, what
    target.heartbeat.check()


async def test_no_message_and_no_answer_of_a_gateway_holds_the_loop(target: Target) -> None:
    path = f"/v1/instances/{target.instance.id}"
    many: dict[str, dict[str, Any]] = {
        "items": {"input": [{"role": "user", "content": "a"}] * (VALUES_MAX // 6)},
        "functions": {
            "tools": [{"type": "function", **CITY, "name": f"f{n}"} for n in range(20_000)]
        },
        "properties": {"text": schema_format({f"p{n}": {} for n in range(VALUES_MAX // 6)})},
    }
    for what, more in many.items():
        body = json.dumps({"model": "gpt-4o", "input": "Hi"} | more).encode()
        await target.call(f"many {what}", "POST", f"{path}/responses", body)
    text = "```" + "\n" * (MAX_ANSWER_BYTES // 2 - 1000) + "x"
    fence = MESSAGE | {"content": [{"type": "output_text", "text": text}]}
    target.provider.answers = [json_response(RESPONSE | {"output": [fence]})]
    structured = {"model": "gpt-4o", "input": "Hi", "text": schema_format({})}
    body = json.dumps(structured).encode()
    read = await target.call("a fence", "POST", f"{path}/responses", body)
    assert read.startswith(b"HTTP/1.1 200"), read[:1000]
    target.heartbeat.check()


async def test_no_control_answer_and_no_list_of_a_sandbox_holds_the_loop(target: Target) -> None:
    await target.sign_in()
    path, page = (f"{above}/{target.instance.id}" for above in ("/v1/instances", "/instances"))
    change = b'{"openclaw_config": {"logging.level": "debug"}}'
    # A reason that a refusal leaves out is sought in the sandbox's log.
    target.world.engine.log = "2026-01-01T1:1+01:01 " * 50_000
    for what, refusal, words in (
        ("a long refusal", "rate limit exceeded " * 50_000, b"rate limit exceeded"),
        ("a long line of the log", "persisted but was not applied", b"does not say why"),
    ):
        refused = json.dumps({"ok": False, "error": {"message": refusal}}).encode()
        target.provider.answers = [
            json_response({"ok": True, "payload": {"hash": "h", "config": {}}}),
            response(refused, status="503 Service Unavailable"),
        ]
        assert words in await target.call(what, "PATCH", path, change)
    for what, config in {
        "numbers": filled("0.123456789012345678901,", MAX_RPC_BYTES // 2),
        "names": ",".join(f'"k{number}":{{}}' for number in range(30_000)),
        "commas": '"' + filled("\\,", MAX_RPC_BYTES - 1000) + '",',
        "half characters": '"' + "\\ud800" * (MAX_RPC_BYTES // 7) + '",',
        "nested arrays": "[" * (MAX_RPC_BYTES - 1000),
    }.items():
        inside = f"{{{config}}}" if what == "names" else f'{{"a":[{config}0]}}'
        answer = f'{{"ok":true,"payload":{{"hash":"h","config":{inside},"sourceConfig":{{}}}}}}'
        target.provider.answers = [response(answer.encode())]
        await target.call(f"config: {what}", "PATCH", path, change)
        await target.call(f"config: {what}", "GET", f"{path}/channels")
        await target.submit(f"config: {what}", f"{page}/config/editor", {})
    programs = target.world.programs.answers
    programs["skills.status"] = done(skills=[{}] * 99_000)
    programs["pairing.list"] = {"requests": [{}] * 90_000}
    await target.call("many skills", "GET", f"{path}/skills")
    await target.submit("many skills", f"{page}/skills/list", {})
    pairings = f"{target.path}/channels/telegram/pairings"
    listed = await target.call("many pairings", "GET", pairings)
    assert b"invalid list of pairings" in listed, listed
    target.heartbeat.check()


def schema_format(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"format": {"type": "json_schema", "name": "a", "schema": schema}}
