"""Well-formed contents that are something other than they should be, mostly a sandbox's answers.

Which bytes they come in is the subject of `test_hostile_gateway`, so here no socket carries them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.app.relay_app import create_relay_app
from chowder_local.instances.lifecycle import reconciler
from chowder_local.openclaw import gateway, skills
from chowder_local.openclaw.channels import APPROVE
from chowder_local.upstream.forward import Forwarder, UpstreamAnswer
from tests.api.conftest import app_of
from tests.scripted.hostile import heartbeat
from tests.scripted.programs import REACH, done
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from chowder_local.core.domain import Instance

MESSAGE = {"model": "claude-sonnet-4", "input": "Hi"}
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
    None, 7, 10**400, "\ud800", [], [7, ["\udfff"], []], {}, {"telegram": 7, "env": [7, {}]},
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


@dataclass(frozen=True)
class Told(UpstreamAnswer):
    """An answer that has come already."""

    body: bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield self.body

    async def close(self) -> None:
        pass


@dataclass
class Victim:
    """A server, and an agent of it that was taken over."""

    world: World
    client: httpx.AsyncClient
    taken: Instance
    status: int = 200
    content: Any = None
    """What the agent's gateway answers to everything."""
    is_asked: bool = False

    async def open(self, *_: object, **__: object) -> UpstreamAnswer:
        """In the place of a forwarder's."""
        self.is_asked = True
        body = json.dumps(self.content).encode()
        return Told(self.status, [("content-type", "application/json")], None, 0.0, body)  # type: ignore[arg-type]  # not asked for

    async def call(self, method: str, path: str, body: Any = None) -> None:
        """Fails unless the call gets a proper answer."""
        url = f"/v1/instances/{self.taken.id}{path}"
        answer = await self.client.request(method, url, json=body)
        what = (method, path, self.status, self.content, self.world.programs.answers)
        assert answer.status_code in ANSWERED, (what, answer.text)
        if answer.content:
            # As every client reads it.
            json.loads(answer.content.decode())

    async def call_with_each(
        self, payloads: Iterable[Any], method: str, path: str, body: Any = None
    ) -> None:
        """The same with each of these as the payload of a control call."""
        for payload in payloads:
            self.content = {"ok": True, "payload": payload}
            await self.call(method, path, body)


@pytest.fixture
async def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Victim]:
    """It waits for nothing that the gateway only says is going to be."""
    monkeypatch.setattr(reconciler, "CHECK_INTERVAL_S", 0.0)
    monkeypatch.setattr(gateway, "RESTART_TIMEOUT_S", 0.0)
    monkeypatch.setattr(gateway, "LONGEST_TURN_WAIT_S", 0.0)
    async with open_world(tmp_path, drain_timeout_s=0.2, boot_timeout_s=0.5) as world:
        monkeypatch.setattr(world.channels, "_connect_timeout_s", -1.0)
        transport = httpx.ASGITransport(app_of(world))
        headers = {"Authorization": f"Bearer {world.key}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as client:
            victim = Victim(world, client, await world.created())
            monkeypatch.setattr(Forwarder, "open", victim.open)
            yield victim
            # Or what it was to answer was not put to the test.
            assert victim.is_asked or victim.content is None


CHANNEL_CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/channels", None),
    ("GET", "/channels/telegram/status", None),
    ("POST", "/channels/telegram/connect", {"config": {}}),
    ("POST", "/channels/whatsapp/connect", {"config": {"dm_policy": "pairing"}}),
    ("POST", "/channels/telegram/disconnect", None),
)


async def test_what_a_gateway_tells_of_channels_may_be_anything(victim: Victim) -> None:
    for call in CHANNEL_CALLS:
        await victim.call_with_each(spoilt(HONEST), *call)


async def test_what_a_gateway_refuses_with_may_be_anything(victim: Victim) -> None:
    honest = {"ok": False, "error": {"code": "NO", "message": "no", "details": {"issues": []}}}
    for victim.status in (400, 503):
        for victim.content in spoilt(honest):
            for call in (*CHANNEL_CALLS, ("POST", "/responses", MESSAGE)):
                await victim.call(*call)


async def test_what_a_sandbox_tells_of_skills_may_be_anything(victim: Victim) -> None:
    victim.content = {"ok": True, "payload": HONEST}
    for content in spoilt({"ok": True, "payload": {"skills": [SKILL]}, "error": None}):
        victim.world.programs.answers["skills.status"] = [content]
        await victim.call("GET", "/skills")
        await victim.call("GET", "/skills/pager")
        await victim.call("PATCH", "/skills/pager", {"enabled": True})


async def test_what_a_sandbox_tells_of_an_installation_may_be_anything(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skills, "LISTING_TIMEOUT_S", 0.0)
    answers = victim.world.programs.answers
    answers["skills.status"] = done(skills=[SKILL])
    honest = {
        REACH: {"url": "https://clawhub.ai", "status": 200, "error": None},
        "skills.install": {
            "ok": True,
            "payload": {"message": "m", "slug": "pager", "targetDir": "b", "stdout": "o"},
            "error": {"code": "UNAVAILABLE", "message": "no"},
        },
    }
    victim.content = {"ok": True, "payload": HONEST}
    for method in honest:
        answers |= honest
        for content in spoilt(honest[method]):
            answers[method] = [content]
            await victim.call("POST", "/skills/install", {"slug": "pager", "env": {"A": "b"}})


async def test_what_a_sandbox_says_to_a_pairing_code_may_be_anything(victim: Victim) -> None:
    for content in spoilt({"status": 0, "output": "Approved."}):
        victim.world.programs.answers[APPROVE] = [content]
        await victim.call("POST", "/channels/telegram/pair", {"code": "ABCD2345"})


async def test_what_a_gateway_tells_of_its_models_may_be_anything(victim: Victim) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    message = MESSAGE | {"input": [{"role": "user", "content": [image]}]}
    payloads = [HONEST | {"config": config} for config in spoilt(HONEST["config"])]
    await victim.call_with_each(payloads, "POST", "/responses", message)


UNENDING = {"regex": "(?" * 40_000}
OF_CLIENTS: dict[str, Any] = {
    "/local/replies": {"replies": [{"match": UNENDING, "reply": "Hi"}]},
    "/local/instances/{id}/breakpoint": {"match": UNENDING},
}
OF_AGENTS: dict[str, Any] = {
    "/openai/responses": {"model": "gpt-4o", "input": "Runtime: agent=" * 10_000},
    f"/gemini/v1beta/{'models/' * 9_000}": {},
}


async def test_no_prefix_by_the_thousand_holds_the_event_loop(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_body_bytes=1024 * 1024) as world:
        agent = await world.created()
        token = world.secret_box.relay_token(agent.sandbox_id)
        relay = create_relay_app(world.relay, max_body_bytes=1024 * 1024)
        offline = {"model_api_keys": {"openai": "offline", "gemini": "offline"}}
        async with _client(app_of(world), world.key) as client, _client(relay, token) as sandbox:
            await client.patch("/v1/organization", json=offline)
            for path, body in OF_CLIENTS.items():
                async with heartbeat(path):
                    refused = await client.put(path.format(id=agent.id), json=body)
                assert refused.status_code == 422, path
            for path, body in OF_AGENTS.items():
                async with heartbeat(path[:20]):
                    await sandbox.post(path, json=body)
        assert any(world.traces.of_instance(agent.id)), "the texts have begun a turn"


def _client(app: ASGIApp, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}", "x-goog-api-key": key}
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
