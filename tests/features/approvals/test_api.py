"""Commands that wait for an approval; tests/e2e/agents has those of real agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.app.relay_app import create_relay_app
from chowder_local.core import untrusted_json
from chowder_local.core.domain import RELAY_HOSTNAME
from chowder_local.core.long_values import LONG_CHARS
from chowder_local.features.approvals import openclaw
from chowder_local.features.approvals.service import Approvals
from chowder_local.openclaw import gateway
from tests.api.dashboard.conftest import Visitor
from tests.scripted.gateway import ok, refused
from tests.scripted.threads import LONG_VALUES, note_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api
    from tests.scripted.world import World

SINCE_MS = 1_796_115_600_000
ALWAYS_ASKED = ["allow-once", "deny"]


def raw(approval_id: str = "a-1", command: str = "rm -rf build", **request: Any) -> dict[str, Any]:
    """An approval as the gateway lists it."""
    return {
        "id": approval_id,
        "createdAtMs": SINCE_MS,
        "expiresAtMs": SINCE_MS + 1_800_000,
        "request": {
            "command": command,
            "cwd": "/data/.openclaw/workspace",
            "sessionKey": "agent:main:main",
            "warningText": "Look twice.",
            "commandAnalysis": {"warningLines": ["Contains inline-eval: python3 -c"]},
            "allowedDecisions": ALWAYS_ASKED,
            **request,
        },
    }


def file(**agent: Any) -> dict[str, Any]:
    """The gateway's answer with the policy of an agent."""
    defaults = {"security": "full", "ask": "off"}
    return {"hash": "h-1", "file": {"version": 1, "defaults": defaults, "agents": {"main": agent}}}


def events(world: World) -> list[tuple[str, ...]]:
    """The events of approvals so far: type, id and decision."""
    found = [each for each in world.events.after(0) if each.type.startswith("approval.")]
    return [
        (
            str(each.type),
            *(
                str(each.members[name])
                for name in ("approval_id", "decision")
                if name in each.members
            ),
        )
        for each in found
    ]


@pytest.fixture
async def instance(http: Api) -> Instance:
    return await http.world.created()


@pytest.fixture
async def sandbox(http: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client in a sandbox, which reaches the relay."""
    world = http.world
    app = create_relay_app(world.relay, gateway_events=world.gateway_events)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=f"http://{RELAY_HOSTNAME}"
    ) as client:
        yield client


async def test_the_dashboard_shows_a_command_in_the_order_in_which_it_runs(
    http: Api, instance: Instance
) -> None:
    http.world.gateway.rpc_answers[openclaw.LIST] = ok([raw(command="ls \u202e; mr\u200b")])
    await http.get(f"/local/instances/{instance.id}/approvals")
    visitor = Visitor(http)
    await visitor.sign_in()
    page = (await visitor.get(f"/instances/{instance.id}/approvals")).text
    assert page.count(r"ls \u202e; mr\u200b") == 1 + 2
    assert "\u202e" not in page


async def test_what_waits_is_listed_and_decided_once(http: Api, instance: Instance) -> None:
    world = http.world
    world.gateway.rpc_answers[openclaw.LIST] = ok([raw(), {"id": "no approval"}])
    path = f"/local/instances/{instance.id}/approvals"
    (listed,) = (await http.get(path)).json()
    assert listed == {
        "id": "a-1",
        "command": "rm -rf build",
        "cwd": "/data/.openclaw/workspace",
        "session": "main",
        "session_key": "agent:main:main",
        "since": "2026-12-01T09:00:00Z",
        "until": "2026-12-01T09:30:00Z",
        "warnings": ["Look twice.", "Contains inline-eval: python3 -c"],
        "decisions": ["allow_once", "deny"],
    }
    other = await http.other_key()
    assert (await http.post(f"{path}/a-1", json={"decision": "deny"}, key=other)).status_code == 404
    assert (await http.post(f"{path}/a-1", json={"decision": "no"})).status_code == 422
    assert (await http.post(f"{path}/a-2", json={"decision": "deny"})).status_code == 404
    assert (await http.post(f"{path}/a-1", json={"decision": "allow_once"})).json() == listed
    assert world.gateway.called(openclaw.RESOLVE) == [{"id": "a-1", "decision": "allow-once"}]
    assert (await http.get(path)).json() == []
    # The gateway was asked once: since then it tells by itself. It may repeat what is decided.
    assert len(world.gateway.called(openclaw.LIST)) == 1
    world.gateway_events.handlers[openclaw.LIST](instance, [raw()])
    assert events(world) == [
        ("approval.requested", "a-1"),
        ("approval.resolved", "a-1", "allow_once"),
    ]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("allow-always is unavailable for this command", 400),
        ("unknown or expired approval id", 404),
        ("approval already resolved", 404),
    ],
)
async def test_a_decision_that_openclaw_refuses_says_why(
    http: Api, instance: Instance, message: str, status: int
) -> None:
    http.world.gateway.rpc_answers |= {
        openclaw.LIST: ok([raw()]),
        openclaw.RESOLVE: refused(message),
    }
    path = f"/local/instances/{instance.id}/approvals/a-1"
    answer = await http.post(path, json={"decision": "allow_always"})
    assert answer.status_code == status
    assert status == 404 or message in answer.text


async def test_what_gateways_tell_is_listed_without_asking_them_and_once(
    http: Api, instance: Instance, sandbox: httpx.AsyncClient
) -> None:
    world = http.world
    token = world.secret_box.relay_token(instance.sandbox_id)

    async def tell(*told: tuple[str, Any], token: str = token) -> int:
        content = {"events": [{"event": name, "payload": payload} for name, payload in told]}
        headers = {"Authorization": f"Bearer {token}"}
        return (await sandbox.post("/gateway-events", json=content, headers=headers)).status_code

    def known() -> list[str]:
        return [each.id for each in world.feature(Approvals).known(instance)]

    assert await tell((openclaw.REQUESTED, raw()), token="other.0") == 401
    assert await tell((openclaw.REQUESTED, raw()), ("agent", {}), (openclaw.REQUESTED, 7)) == 204
    assert known() == ["a-1"]
    assert await tell((openclaw.LIST, [raw(), raw("a-2"), raw("a-3"), raw("a-4")])) == 204
    end = {"ts": SINCE_MS + 1_000, "decision": "deny"}
    await tell(
        (openclaw.RESOLVED, {**end, "id": "a-1", "resolvedBy": "gateway-client"}),
        (openclaw.RESOLVED, {**end, "id": "a-2", "ts": SINCE_MS + 1_800_000}),
        (openclaw.RESOLVED, {**end, "id": "a-3", "resolvedBy": "approval-scope-closed"}),
        (openclaw.RESOLVED, {**end, "id": "a-3"}),
    )
    assert known() == ["a-4"]
    # The gateway was started again.
    await tell((openclaw.LIST, []))
    assert known() == []
    assert not world.gateway.called(openclaw.LIST)
    assert events(world) == [
        *(("approval.requested", f"a-{number}") for number in (1, 2, 3, 4)),
        ("approval.resolved", "a-1", "deny"),
        ("approval.resolved", "a-2", "expired"),
        ("approval.resolved", "a-3", "cancelled"),
        ("approval.resolved", "a-4", "cancelled"),
    ]


async def test_an_agent_that_is_too_busy_to_be_asked_has_told_what_waits(
    http: Api, instance: Instance
) -> None:
    world = http.world
    path = f"/local/instances/{instance.id}/approvals"
    world.gateway_events.handlers[openclaw.REQUESTED](instance, raw())
    world.gateway.rpc_answers[openclaw.LIST] = [refused("busy", 503), ok([raw(), raw("a-2")])]
    assert [each["id"] for each in (await http.get(path)).json()] == ["a-1"]
    assert [each["id"] for each in (await http.get(path)).json()] == ["a-1", "a-2"]


async def test_what_a_sandbox_tells_is_bounded(
    http: Api, instance: Instance, sandbox: httpx.AsyncClient
) -> None:
    headers = {"Authorization": f"Bearer {http.world.secret_box.relay_token(instance.sandbox_id)}"}
    many = [raw(f"a-{number}", "x" * 30_000) for number in range(101)]
    content = {"events": [{"event": openclaw.LIST, "payload": many}]}
    await sandbox.post("/gateway-events", json=content, headers=headers)
    known = http.world.feature(Approvals).known(instance)
    assert len(known) == 100
    assert len(known[0].command) == openclaw.MAX_COMMAND
    long = b'{"events": "' + b"x" * 4 * 1024 * 1024 + b'"}'
    for body, status in ((b"[]", 400), (long, 413)):
        answer = await sandbox.post("/gateway-events", content=body, headers=headers)
        assert answer.status_code == status


async def test_who_is_no_sandbox_gets_to_send_no_events(sandbox: httpx.AsyncClient) -> None:
    is_read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal is_read
        is_read = True
        yield b"{}"

    headers = {"Authorization": "Bearer chowder-1.wrong"}
    answer = await sandbox.post("/gateway-events", content=body(), headers=headers)
    assert (answer.status_code, is_read) == (401, False)


async def test_no_client_waits_while_long_events_are_read(
    http: Api, instance: Instance, sandbox: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = note_threads(monkeypatch, (untrusted_json, "read_encodable_object"))
    headers = {"Authorization": f"Bearer {http.world.secret_box.relay_token(instance.sandbox_id)}"}
    content = {"events": "x" * LONG_CHARS}
    answer = await sandbox.post("/gateway-events", json=content, headers=headers)
    assert (answer.status_code, threads) == (204, {"read_encodable_object": {LONG_VALUES}})


async def test_a_stopped_agents_commands_wait_frozen_and_end_with_its_sandbox(
    http: Api, instance: Instance
) -> None:
    world = http.world
    world.gateway.rpc_answers[openclaw.LIST] = ok([raw()])
    path = f"/local/instances/{instance.id}/approvals"
    await http.get(path)
    await http.post(f"/v1/instances/{instance.id}/stop")
    assert [each["id"] for each in (await http.get(path)).json()] == ["a-1"]
    assert (await http.post(f"{path}/a-1", json={"decision": "deny"})).status_code == 409
    stopped = await world.instances.get(instance.id)
    assert stopped is not None
    await world.agents.evict(stopped)
    assert (await http.get(path)).json() == []
    assert events(world)[-1] == ("approval.resolved", "a-1", "cancelled")


async def test_the_policy_is_the_stricter_of_the_agents_own_and_its_configurations(
    http: Api, instance: Instance
) -> None:
    world = http.world
    path = f"/local/instances/{instance.id}/approvals/policy"
    allowed = [{"pattern": "git", "id": "1"}, {"pattern": "/bin/ls", "argPattern": "^-l$"}]
    own = file(ask="always", allowlist=allowed)
    world.gateway.rpc_answers |= {
        openclaw.GET_POLICY: ok(own),
        "config.get": ok({"hash": "1", "config": {"tools": {"exec": {"mode": "ask"}}}}),
    }
    assert (await http.get(path)).json() == {
        "ask": "always",
        "security": "allowlist",
        "ask_fallback": "deny",
        "allowlist": [
            {"pattern": "git", "arg_pattern": None},
            {"pattern": "/bin/ls", "arg_pattern": "^-l$"},
        ],
    }
    world.gateway.rpc_answers["config.get"] = ok({"hash": "1", "config": {}})
    assert (await http.get(path)).json()["security"] == "full"


async def test_a_change_of_the_policy_keeps_what_it_does_not_name(
    http: Api, instance: Instance
) -> None:
    world = http.world
    path = f"/local/instances/{instance.id}/approvals/policy"
    kept = {"pattern": "git", "id": "1", "lastUsedAt": 5}
    own = file(security="allowlist", allowlist=[kept, {"pattern": "rm"}])
    world.gateway.rpc_answers |= {
        openclaw.GET_POLICY: ok(own),
        openclaw.SET_POLICY: [refused("exec approvals changed since last load; retry"), ok(own)],
    }
    change = {"ask": "on_miss", "allowlist": [{"pattern": "git"}, {"pattern": "ls"}]}
    assert (await http.call("PUT", path, json=change)).status_code == 200
    first, second = world.gateway.called(openclaw.SET_POLICY)
    assert first == second
    assert second["baseHash"] == "h-1"
    assert second["file"]["agents"]["main"] == {
        "security": "allowlist",
        "ask": "on-miss",
        "allowlist": [kept, {"pattern": "ls"}],
    }
    assert second["file"]["defaults"] == own["file"]["defaults"]
    for wrong in ({"ask": "on-miss"}, {"asks": "off"}, {"allowlist": [{"pattern": ""}]}):
        assert (await http.call("PUT", path, json=wrong)).status_code == 422
    world.gateway.rpc_answers[openclaw.SET_POLICY] = refused("no such thing")
    answer = await http.call("PUT", path, json={"ask": "off"})
    assert (answer.status_code, "no such thing" in answer.text) == (400, True)


async def test_a_policy_that_was_set_without_an_answer_is_shown_as_it_is(
    http: Api, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = http.world
    path = f"/local/instances/{instance.id}/approvals/policy"
    monkeypatch.setattr(gateway, "RPC_TIMEOUT_S", 0.2)
    world.gateway.rpc_answers |= {openclaw.GET_POLICY: ok(file()), openclaw.SET_POLICY: ok({})}
    world.gateway.unanswered = [openclaw.SET_POLICY]
    answer = await http.call("PUT", path, json={"ask": "always"})
    assert (answer.status_code, answer.json()["ask"]) == (200, "always")
    assert len(world.gateway.called(openclaw.SET_POLICY)) == 2
    assert not world.gateway.unanswered


async def test_a_policy_that_is_set_is_not_asked_for_again(http: Api, instance: Instance) -> None:
    world = http.world
    path = f"/local/instances/{instance.id}/approvals/policy"
    broken = refused("the database is busy", 503)
    world.gateway.rpc_answers |= {
        openclaw.GET_POLICY: [ok(file()), broken],
        openclaw.SET_POLICY: ok({}),
    }
    answer = await http.call("PUT", path, json={"ask": "always"})
    assert (answer.status_code, answer.json()["ask"]) == (200, "always")
