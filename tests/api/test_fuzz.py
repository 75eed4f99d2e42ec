"""Every operation answers as documented to thousands of generated requests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from chowder_local.app.application import State, api
from chowder_local.core.domain import EngineMemory, InstanceId, ModelProvider, Tier
from chowder_local.core.tasks import Shutdown
from chowder_local.features.approvals import openclaw as approvals
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.features.front import all_operations
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.webhooks.service import Webhooks
from chowder_local.http.listener import with_state
from chowder_local.openclaw.channels import ADMIT, APPROVE, LIST_PAIRINGS
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
    "sessions.rewind": done(),
    REACH: {"url": "https://clawhub.ai", "status": 200},
    "skills.status": done(skills=[SKILL]),
    APPROVE: {"status": 0, "output": "Approved telegram sender 555."},
    ADMIT: {"is_found": True},
    LIST_PAIRINGS: {"requests": [PAIRING]},
    "skills.install": done(
        ok=True, message="Installed", slug="weather", targetDir=SKILL["baseDir"]
    ),
}
"""Answers of the programs in every sandbox."""
TELEGRAM = {"botToken": "…", "apiRoot": "http://relay.local:2470/messengers/telegram/1"}
WHILE_RUNNING = [
    # The other one has a call that is held, for whose end it would wait.
    "POST /local/instances/{instance_id}/clock/advance",
    "DELETE /local/instances/{instance_id}/activity/{item_id}",
    "POST /local/instances/{instance_id}/sessions/{session_id}/abort",
    "POST /local/instances/{instance_id}/sessions/{session_id}/compact",
    "POST /local/instances/{instance_id}/sessions/{session_id}/rewind",
]
"""Operations of an agent that no other one boots again."""
TASK = {"id": "task-1", "runtime": "cli", "status": "running", "title": "Fuzz"}
APPROVAL = {"id": "4f6a2b1e-6f0c-4a0c-9d0e-2f3b5c7d9e11", "createdAtMs": 1000, "expiresAtMs": 2000,
            "request": {"command": "ls", "allowedDecisions": ["allow-once", "deny"]}}  # fmt: skip
CALLS = {
    "tasks.list": ok({"tasks": [TASK]}),
    "tasks.cancel": ok({"cancelled": True}),
    approvals.LIST: ok([APPROVAL]),
    "config.get": ok({"hash": "1", "sourceConfig": {"channels": {"telegram": TELEGRAM}}}),
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
    followed_id: str

    def create(self, path: str, **body: Any) -> str:
        """The id of what is made with the organization's key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        made = httpx.post(f"{self.url}{path}", json=body, headers=headers).json()
        return str(made["id"])


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
        body = b'{"model": "gpt-4o", "input": "Hi"}'
        call = world.call_log.begin(
            world.organization_id, InstanceId(ids[0]), ModelProvider.OPENAI, "responses", body
        )
        world.feature(Breakpoints).put(InstanceId(ids[0]), BreakpointMatch(), once=True)
        await world.feature(Breakpoints).hold(call.request, call)
        ids.append(InstanceId(call.id))
        # One that no other operation boots again.
        ids.append((await world.created(name="followed")).id)
        # Event streams end at once.
        world.events.close()
        # And what waits for something that an agent says, or for its end.
        over = Shutdown()
        over.begin()
        for waiting in (
            world.feature(Messengers),
            world.messages,
            world.feature(Webhooks).inbox.entries,
            world.activities,
        ):
            waiting.shutdown = over
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


@pytest.mark.parametrize(
    "phases",
    [
        pytest.param(("examples", "fuzzing", "stateful"), id="at random"),
        # Some 4,000 requests: each parameter of each operation at its bounds and beyond them.
        pytest.param(
            ("examples", "coverage", "fuzzing", "stateful"),
            id="and at bounds",
            marks=[pytest.mark.nightly],
        ),
    ],
)
def test_every_operation_answers_as_documented(
    place: Place,
    record_testsuite_property: Callable[[str, object], None],
    phases: tuple[str, ...],
) -> None:
    from tests.fuzz import fuzz

    agent = place.instance_id
    snapshots = f"/local/instances/{agent}/snapshots"
    snapshot_id = place.create(snapshots)
    key = {"name": "fuzz", "instance_ids": [agent], "permissions": ["read"]}
    message = {"model": "gpt-4o", "input": "Hi"}
    findings = fuzz(
        place.url,
        place.key,
        instance_id=agent,
        snapshot_id=snapshot_id,
        archive=exported(),
        phases=phases,
        operations=[
            {
                "include-path-regex": r"\{instance_id\}",
                "exclude-name": [*ENDING, *WHILE_RUNNING],
                "parameters": {
                    "path.instance_id": agent,
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
                "include-name": [
                    "GET /local/model-calls/{model_call_id}",
                    "POST /local/held-calls/{model_call_id}/resume",
                ],
                "parameters": {"path.model_call_id": place.model_call_id},
            },
            {
                "include-name": "POST /local/instances/{instance_id}/approvals/{approval_id}",
                "parameters": {"path.instance_id": agent, "path.approval_id": APPROVAL["id"]},
            },
            {
                "include-name": "GET /local/instances/{instance_id}/traces/{response_id}",
                "parameters": {
                    "path.instance_id": agent,
                    "path.response_id": place.create(f"/v1/instances/{agent}/responses", **message),
                },
            },
            {"include-name": "GET /local/runs/{run}", "parameters": {"path.run": agent}},
            {
                "include-name": WHILE_RUNNING,
                "parameters": {"path.instance_id": place.followed_id, "path.item_id": TASK["id"]},
            },
            {
                "include-name": "GET /v1/keys/{key_id}",
                "parameters": {"path.key_id": place.create("/v1/keys", **key)},
            },
            {
                "include-name": "DELETE /v1/keys/{key_id}",
                "parameters": {"path.key_id": place.create("/v1/keys", **key)},
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
                "parameters": {"path.snapshot_id": place.create(snapshots)},
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
                "parameters": {
                    "path.fault_id": place.create("/local/faults", kind="start", instance_id=agent)
                },
            },
        ],
    )
    record_testsuite_property("findings", str(findings))
    assert not findings.failures, f"{findings}\n\n{findings.told()}"
    assert len(findings.statuses) == len(all_operations())
    # A few succeed with values that are at a bound only.
    assert "coverage" not in phases or not findings.never_successful
