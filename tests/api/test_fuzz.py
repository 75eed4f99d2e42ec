"""Every operation answers as documented to thousands of generated requests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from chowder_local.api.routes import OPERATIONS
from chowder_local.app.server import State, api
from chowder_local.core.domain import EngineMemory, InstanceId, ModelProvider, Tier
from chowder_local.http.listener import with_state
from chowder_local.openclaw.channels import APPROVE, LIST_PAIRINGS
from tests.scripted.gateway import ok
from tests.scripted.homes import exported
from tests.scripted.programs import REACH, done
from tests.scripted.serving import serve
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.applications import Starlette

# Measuring coverage about doubles its time.
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]

MAX_EXAMPLES = 2
ENDING = [
    "POST /v1/instances/{instance_id}/stop",
    "POST /v1/instances/{instance_id}/start",
    "DELETE /v1/instances/{instance_id}",
]
"""Operations whose effects would disturb the others."""

SKILL = {
    "name": "weather",
    "description": "Says how the weather is.",
    "source": "openclaw-managed",
    "eligible": True,
    "filePath": "/data/.openclaw/skills/weather/SKILL.md",
    "baseDir": "/data/.openclaw/skills/weather",
    "skillKey": "weather",
}
PAIRING = {"id": "555", "code": "ABCD2345", "createdAt": "2026-01-01T00:00:00Z",
           "lastSeenAt": "2026-01-01T00:00:00Z", "meta": {}}  # fmt: skip
PROGRAMS = {
    "list": done(sessions=[{"key": "agent:main:irc:5", "updated_at": 1000, "messages": 2}]),
    "read": done(
        is_known=True,
        messages=[{"position": 3, "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
        has_more=True,
    ),
    REACH: {"url": "https://clawhub.ai", "status": 200},
    "skills.status": done(skills=[SKILL]),
    APPROVE: {"status": 0, "output": "Approved telegram sender 555."},
    LIST_PAIRINGS: {"requests": [PAIRING]},
    "skills.install": done(
        ok=True, message="Installed", slug="weather", targetDir=SKILL["baseDir"]
    ),
}
"""Answers of the programs in every sandbox."""
CALLS = {
    "config.get": ok({"hash": "1", "sourceConfig": {"channels": {"telegram": {"botToken": "…"}}}}),
    # Also while another operation drains it: all agents share this gateway.
    "config.patch": ok(
        {"sentinel": {"persisted": True, "payload": {"stats": {"requiresRestart": False}}}}
    ),
    "channels.status": ok(
        {"channelAccounts": {"telegram": [{"running": True, "connected": True}]}}
    ),
}
"""Answers of every gateway."""


@dataclass(frozen=True)
class Place:
    """A server on a socket, with one organization's data."""

    url: str
    key: str
    other_key: str
    instance_id: str
    stopping_id: str
    deleted_id: str
    model_call_id: str

    def new_fault(self) -> str:
        """The id of a new fault for a call that no test makes."""
        body = {"kind": "start", "instance_id": self.instance_id}
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.url}/local/faults", json=body, headers=headers)
        fault_id: str = answer.json()["id"]
        return fault_id

    def new_key(self) -> str:
        """The id of a new scoped key."""
        body = {"name": "fuzz", "instance_ids": [self.instance_id], "permissions": ["read"]}
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.url}/v1/keys", json=body, headers=headers)
        key_id: str = answer.json()["id"]
        return key_id

    def new_response(self) -> str:
        """The id of a new answer."""
        path = f"{self.url}/v1/instances/{self.instance_id}/responses"
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"model": "gpt-4o", "input": "Hi"}
        response_id: str = httpx.post(path, json=body, headers=headers).json()["id"]
        return response_id

    def new_snapshot(self) -> str:
        """The id of a new snapshot."""
        path = f"{self.url}/local/instances/{self.instance_id}/snapshots"
        headers = {"Authorization": f"Bearer {self.key}"}
        snapshot_id: str = httpx.post(path, json={}, headers=headers).json()["id"]
        return snapshot_id


@asynccontextmanager
async def open_place(tmp_path: Path) -> AsyncIterator[Place]:
    async with open_world(tmp_path) as world:

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[State]:
            yield world.state

        ids = [(await world.created(name=name)).id for name in ("used", "stopping", "deleted")]
        # Several operations create agents; each has to succeed once without disturbing another.
        world.engine.memory_reading = EngineMemory(4_000_000_000_000, 4_000_000_000_000)
        await world.organizations.move(world.organization_id, Tier.LOBSTER, is_paid_for=False)
        world.programs.answers |= PROGRAMS
        world.beside.answers |= PROGRAMS
        world.gateway.rpc_answers |= CALLS
        exchange = world.call_log.begin(
            world.organization_id, InstanceId(ids[0]), ModelProvider.OPENAI, "responses", b"{}"
        )
        ids.append(InstanceId(exchange.id))
        # Event streams end at once.
        world.events.close()
        _, other_key = await world.organizations.signup("Others")
        app = with_state(api([], lifespan, world.metrics), world.state)
        async with serve(app) as url:
            yield Place(url, world.key, other_key, *ids)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Runs in its own thread, because schemathesis blocks the test's."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_place(tmp_path)) as place,
    ):
        yield place


# Some 4,000 requests: each parameter of each operation at its bounds and beyond them.
def test_every_operation_answers_as_documented(
    place: Place, record_testsuite_property: Callable[[str, object], None]
) -> None:
    from tests.fuzz import fuzz

    snapshot_id = place.new_snapshot()
    findings = fuzz(
        place.url,
        place.key,
        instance_id=place.instance_id,
        snapshot_id=snapshot_id,
        archive=exported(),
        max_examples=MAX_EXAMPLES,
        phases=("examples", "coverage", "fuzzing", "stateful"),
        operations=[
            {
                "include-path-regex": r"\{instance_id\}",
                "exclude-name": ENDING,
                "parameters": {
                    "path.instance_id": place.instance_id,
                    "path.channel": "telegram",
                },
            },
            {
                "include-name": ENDING[:2],
                "parameters": {"path.instance_id": place.stopping_id},
            },
            {
                "include-name": ENDING[2],
                "parameters": {"path.instance_id": place.deleted_id},
            },
            {
                "include-name": "GET /local/model-calls/{model_call_id}",
                "parameters": {"path.model_call_id": place.model_call_id},
            },
            {
                "include-name": "GET /local/instances/{instance_id}/traces/{response_id}",
                "parameters": {
                    "path.instance_id": place.instance_id,
                    "path.response_id": place.new_response(),
                },
            },
            {
                "include-name": "GET /v1/keys/{key_id}",
                "parameters": {"path.key_id": place.new_key()},
            },
            {
                "include-name": "DELETE /v1/keys/{key_id}",
                "parameters": {"path.key_id": place.new_key()},
            },
            {
                "include-name": [
                    "GET /local/snapshots/{snapshot_id}",
                    "POST /local/snapshots/{snapshot_id}/fork",
                ],
                "parameters": {"path.snapshot_id": snapshot_id},
            },
            {
                "include-name": "DELETE /local/snapshots/{snapshot_id}",
                "parameters": {"path.snapshot_id": place.new_snapshot()},
            },
            # Another organization, so that the agents' one keeps its model keys.
            {
                "include-path": "/v1/organization",
                "headers": {"Authorization": f"Bearer {place.other_key}"},
            },
            {
                "include-path-regex": "^/local/(faults|reset)$",
                "headers": {"Authorization": f"Bearer {place.other_key}"},
            },
            {
                "include-name": "DELETE /local/faults/{fault_id}",
                "parameters": {"path.fault_id": place.new_fault()},
            },
        ],
    )
    record_testsuite_property("findings", str(findings))
    assert not findings.failures, f"{findings}\n\n{findings.told()}"
    assert len(findings.statuses) == len(OPERATIONS)
    assert not findings.never_successful
