"""Every route with every kind of key, and the status that each combination must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import EngineMemory, InstanceId, Permission, Tier
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.core.secrets import ORGANIZATION_PREFIX, SCOPED_PREFIX
from chowder_local.dashboard.routes import LINKED_PAGES, Page
from chowder_local.features.front import all_operations
from tests.scripted.homes import exported
from tests.scripted.programs import done

if TYPE_CHECKING:
    from chowder_local.api.operations import Operation
    from tests.api.conftest import Api

ROUTES: tuple[Operation | Page, ...] = (*all_operations(), *LINKED_PAGES)
INSIDE = re.compile(r"/(channels|skills|files|sessions|transcript|jobs|wake)\b")

COLUMNS = ("bad", "else", "read", "intr", "conf", "file", "chan", "all", "other", "org")
"""What a cell is about. The keys of a row are used from left to right on one agent, which runs;
but where what answers is inside the sandbox, it is stopped: 409 is then what is past the checks.

bad     no key, or one that is malformed, unknown, revoked or expired: all of them alike
else    a scoped key with every permission, but for another agent of the organization
read …  a scoped key for the agent with this one permission
all     a scoped key for the agent with every permission
other   another organization's key
org     the organization's key
"""

TABLE = """
                                                    bad else read intr conf file chan  all other org
POST   /v1/organization/signup                      201  201  201  201  201  201  201  201  201  201
GET    /v1/organization                             401  403  403  403  403  403  403  403  200  200
PATCH  /v1/organization                             401  403  403  403  403  403  403  403  200  200
POST   /v1/instances                                401  403  403  403  403  403  403  403  201  201
GET    /v1/instances                                401  200  200  200  200  200  200  200  200  200
GET    /v1/instances/{instance_id}                  401  403  200  403  403  403  403  200  404  200
PATCH  /v1/instances/{instance_id}                  401  403  403  403  200  403  403  200  404  200
DELETE /v1/instances/{instance_id}                  401  403  403  403  403  403  403  403  404  204
GET    /v1/instances/{instance_id}/status           401  403  200  403  403  403  403  200  404  200
POST   /v1/instances/{instance_id}/stop             401  403  403  403  403  403  403  403  404  200
POST   /v1/instances/{instance_id}/start            401  403  403  403  403  403  403  403  404  409
POST   /v1/instances/{instance_id}/responses        401  403  403  200  403  403  403  200  404  200
POST   /v1/instances/{instance_id}/session/{session_id:path}/responses
                                                    401  403  403  200  403  403  403  200  404  200
GET    /v1/instances/{instance_id}/models           401  403  403  200  403  403  403  200  404  200
GET    /v1/instances/{instance_id}/channels         401  403  403  403  403  403  409  409  404  409
GET    /v1/instances/{instance_id}/channels/{channel}
                                                    200  200  200  200  200  200  200  200  200  200
POST   /v1/instances/{instance_id}/channels/{channel}/connect
                                                    401  403  403  403  403  403  409  409  404  409
GET    /v1/instances/{instance_id}/channels/{channel}/status
                                                    401  403  403  403  403  403  409  409  404  409
POST   /v1/instances/{instance_id}/channels/{channel}/pair
                                                    401  403  403  403  403  403  409  409  404  409
POST   /v1/instances/{instance_id}/channels/{channel}/disconnect
                                                    401  403  403  403  403  403  409  409  404  409
GET    /v1/instances/{instance_id}/files            401  403  403  403  403  409  403  409  404  409
GET    /v1/instances/{instance_id}/files/content    401  403  403  403  403  409  403  409  404  409
PUT    /v1/instances/{instance_id}/files/content    401  403  403  403  403  409  403  409  404  409
POST   /v1/instances/{instance_id}/files/upload     401  403  403  403  403  409  403  409  404  409
GET    /v1/instances/{instance_id}/files/download   401  403  403  403  403  409  403  409  404  409
GET    /v1/instances/{instance_id}/skills           401  403  403  403  409  403  403  409  404  409
POST   /v1/instances/{instance_id}/skills/install   401  403  403  403  409  403  403  409  404  409
GET    /v1/instances/{instance_id}/skills/{skill_name:path}
                                                    401  403  403  403  409  403  403  409  404  409
PATCH  /v1/instances/{instance_id}/skills/{skill_name:path}
                                                    401  403  403  403  409  403  403  409  404  409
POST   /v1/keys                                     401  403  403  403  403  403  403  403  404  201
GET    /v1/keys                                     401  403  403  403  403  403  403  403  200  200
GET    /v1/keys/{key_id}                            401  403  403  403  403  403  403  403  404  200
DELETE /v1/keys/{key_id}                            401  403  403  403  403  403  403  403  404  204
GET    /v1/subscription                             401  403  403  403  403  403  403  403  200  200
POST   /v1/subscription/checkout                    401  403  403  403  403  403  403  403  200  200
POST   /v1/subscription/portal                      401  403  403  403  403  403  403  403  200  200
GET    /local/health                                200  200  200  200  200  200  200  200  200  200
GET    /local/ready                                 200  200  200  200  200  200  200  200  200  200
GET    /local/metrics                               200  200  200  200  200  200  200  200  200  200
GET    /local/events                                401  403  403  403  403  403  403  403  200  200
GET    /local/instances/{instance_id}/events        401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}               401  403  403  403  403  403  403  403  404  200
PATCH  /local/instances/{instance_id}               401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/clock         401  403  403  403  403  403  403  403  404  200
PUT    /local/instances/{instance_id}/clock         401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/clock         401  403  403  403  403  403  403  403  404  200
POST   /local/instances/{instance_id}/clock/advance 401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/clock/advance 401  403  403  403  403  403  403  403  404  204
GET    /local/instances/{instance_id}/logs          401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/gateway       401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/channels/{channel}/pairings
                                                    401  403  403  403  403  403  409  409  404  409
POST   /local/instances/{instance_id}/channels/{channel}/pairings/{code}/approve
                                                    401  403  403  403  403  403  409  409  404  409
POST   /local/instances/{instance_id}/channels/{channel}/messages
                                                    401  403  403  403  403  403  201  201  404  201
GET    /local/instances/{instance_id}/channels/{channel}/messages
                                                    401  403  403  403  403  403  200  200  404  200
GET    /local/instances/{instance_id}/channels/messages
                                                    401  403  403  403  403  403  200  200  404  200
DELETE /local/instances/{instance_id}/channels/{channel}/messages
                                                    401  403  403  403  403  403  204  204  404  204
GET    /local/instances/{instance_id}/model-calls 401  403  403  403  403  403  403  403  404  200
GET    /local/model-calls/{model_call_id}           401  403  403  403  403  403  403  403  404  404
GET    /local/instances/{instance_id}/traces        401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/traces/{response_id}  401 403 403 403 403 403 403 403 404 404
GET    /local/runs/{run:path}                       401  403  403  403  403  403  403  403  404  404
GET    /local/instances/{instance_id}/messages      401  403  403  403  403  403  403  403  404  200
POST   /local/instances/{instance_id}/hooks/{hook:path}
                                                    401  403  403  200  403  403  403  200  404  200
GET    /local/instances/{instance_id}/inbox         401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/inbox         401  403  403  403  403  403  403  403  404  204
GET    /local/instances/{instance_id}/breakpoint    401  403  403  403  403  403  403  403  404  404
PUT    /local/instances/{instance_id}/breakpoint    401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/breakpoint    401  403  403  403  403  403  403  403  404  204
GET    /local/held-calls                            401  403  403  403  403  403  403  403  200  200
POST   /local/held-calls/{model_call_id}/resume     401  403  403  403  403  403  403  403  404  404
GET    /local/instances/{instance_id}/approvals     401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/approvals/policy
                                                    401  403  403  403  403  403  403  403  404  200
PUT    /local/instances/{instance_id}/approvals/policy
                                                    401  403  403  403  403  403  403  403  404  200
POST   /local/instances/{instance_id}/approvals/{approval_id}
                                                    401  403  403  403  403  403  403  403  404  404
GET    /local/replies                               401  403  403  403  403  403  403  403  200  200
PUT    /local/replies                               401  403  403  403  403  403  403  403  200  200
DELETE /local/replies                               401  403  403  403  403  403  403  403  204  204
GET    /local/instances/{instance_id}/replies       401  403  403  403  403  403  403  403  404  200
PUT    /local/instances/{instance_id}/replies       401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/replies       401  403  403  403  403  403  403  403  404  204
GET    /local/instances/{instance_id}/recording     401  403  403  403  403  403  403  403  404  200
PUT    /local/instances/{instance_id}/recording     401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/recording     401  403  403  403  403  403  403  403  404  204
POST   /local/faults                                401  403  403  403  403  403  403  403  201  201
GET    /local/faults                                401  403  403  403  403  403  403  403  200  200
DELETE /local/faults                                401  403  403  403  403  403  403  403  204  204
DELETE /local/faults/{fault_id}                     401  403  403  403  403  403  403  403  404  204
POST   /local/reset                                 401  403  403  403  403  403  403  403  200  200
GET    /local/instances/{instance_id}/sessions      401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/transcript    401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/sessions/{session_id:path}/transcript
                                                    401  403  403  403  403  403  403  403  404  200
POST   /local/instances/{instance_id}/sessions/{session_id:path}/reset
                                                    401  403  403  403  403  403  403  403  404  409
POST   /local/instances/{instance_id}/sessions/{session_id:path}/rewind
                                                    401  403  403  403  403  403  403  403  404  409
POST   /local/instances/{instance_id}/sessions/{session_id:path}/compact
                                                    401  403  403  403  403  403  403  403  404  409
POST   /local/instances/{instance_id}/sessions/{session_id:path}/abort
                                                    401  403  403  403  403  403  403  403  404  409
DELETE /local/instances/{instance_id}/sessions/{session_id:path}
                                                    401  403  403  403  403  403  403  403  404  409
GET    /local/instances/{instance_id}/activity      401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/activity      401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/activity/{item_id}
                                                    401  403  403  403  403  403  403  403  404  404
POST   /local/instances/{instance_id}/wait          401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/jobs          401  403  403  403  403  403  403  403  404  409
POST   /local/instances/{instance_id}/jobs          401  403  403  403  403  403  403  403  404  409
GET    /local/instances/{instance_id}/jobs/{job_id} 401  403  403  403  403  403  403  403  404  409
PATCH  /local/instances/{instance_id}/jobs/{job_id} 401  403  403  403  403  403  403  403  404  409
DELETE /local/instances/{instance_id}/jobs/{job_id} 401  403  403  403  403  403  403  403  404  409
POST   /local/instances/{instance_id}/jobs/{job_id}/run 401 403 403 403 403 403 403 403 404 409
GET    /local/instances/{instance_id}/jobs/{job_id}/runs 401 403 403 403 403 403 403 403 404 409
POST   /local/instances/{instance_id}/wake          401  403  403  403  403  403  403  403  404  409
GET    /local/instances/{instance_id}/budget        401  403  403  403  403  403  403  403  404  404
PUT    /local/instances/{instance_id}/budget        401  403  403  403  403  403  403  403  404  200
DELETE /local/instances/{instance_id}/budget        401  403  403  403  403  403  403  403  404  204
GET    /local/organization                          401  403  403  403  403  403  403  403  200  200
PATCH  /local/organization                          401  403  403  403  403  403  403  403  200  200
GET    /local/budget                                401  403  403  403  403  403  403  403  404  404
PUT    /local/budget                                401  403  403  403  403  403  403  403  200  200
DELETE /local/budget                                401  403  403  403  403  403  403  403  204  204
GET    /local/instances/{instance_id}/usage         401  403  403  403  403  403  403  403  404  200
GET    /local/usage                                 401  403  403  403  403  403  403  403  200  200
POST   /local/instances/{instance_id}/snapshots     401  403  403  403  403  403  403  403  404  201
GET    /local/instances/{instance_id}/snapshots     401  403  403  403  403  403  403  403  404  200
GET    /local/snapshots                             401  403  403  403  403  403  403  403  200  200
GET    /local/snapshots/{snapshot_id}               401  403  403  403  403  403  403  403  404  200
DELETE /local/snapshots/{snapshot_id}               401  403  403  403  403  403  403  403  404  204
POST   /local/snapshots/{snapshot_id}/fork          401  403  403  403  403  403  403  403  404  201
POST   /local/instances/{instance_id}/fork          401  403  403  403  403  403  403  403  404  201
POST   /local/instances/{instance_id}/restore       401  403  403  403  403  403  403  403  404  200
POST   /local/instances/{instance_id}/upgrade       401  403  403  403  403  403  403  403  404  200
GET    /local/instances/{instance_id}/export        401  403  403  403  403  403  403  403  404  200
POST   /local/instances/import                      401  403  403  403  403  403  403  403  201  201
GET    /local/checkout                              200  200  200  200  200  200  200  200  200  200
POST   /local/checkout                              303  303  303  303  303  303  303  303  303  303
GET    /local/portal                                200  200  200  200  200  200  200  200  200  200
POST   /local/portal                                303  303  303  303  303  303  303  303  303  303
"""

MESSAGE = {"model": "gpt-4o", "input": "Hi"}
REQUESTS: dict[str, dict[str, Any]] = {
    "POST /v1/organization/signup": {"json": {"name": "Cellar"}},
    "PATCH /v1/organization": {"json": {"name": "Cellar"}},
    "POST /v1/instances": {"json": {"name": "Bea"}},
    "PATCH /v1/instances/{instance_id}": {"json": {"name": "Bea"}},
    "POST /v1/instances/{instance_id}/responses": {"json": MESSAGE},
    "POST /v1/instances/{instance_id}/session/{session_id:path}/responses": {"json": MESSAGE},
    "POST /v1/instances/{instance_id}/channels/{channel}/connect": {
        "json": {"config": {"token": "x"}}
    },
    "POST /v1/instances/{instance_id}/channels/{channel}/pair": {"json": {"code": "ABCD2345"}},
    "POST /local/instances/{instance_id}/channels/{channel}/messages": {"json": {"from": "Ada"}},
    "POST /local/instances/{instance_id}/jobs": {
        "json": {"name": "r", "schedule": {"kind": "every", "every_s": 60}, "message": "m"}
    },
    "PATCH /local/instances/{instance_id}/jobs/{job_id}": {"json": {"is_enabled": False}},
    "POST /local/instances/{instance_id}/wake": {"json": {}},
    "POST /local/instances/{instance_id}/wait": {"json": {}},
    "GET /v1/instances/{instance_id}/files/content": {"params": {"path": "a"}},
    "PUT /v1/instances/{instance_id}/files/content": {"json": {"path": "a", "content": "b"}},
    "POST /v1/instances/{instance_id}/files/upload": {
        "data": {"path": "a"},
        "files": {"file": ("a", b"b")},
    },
    "GET /v1/instances/{instance_id}/files/download": {"params": {"path": "a"}},
    "POST /v1/instances/{instance_id}/skills/install": {"json": {"slug": "weather"}},
    "PATCH /v1/instances/{instance_id}/skills/{skill_name:path}": {"json": {"enabled": True}},
    "POST /v1/keys": {
        "json": {"name": "ci", "instance_ids": ["{instance_id}"], "permissions": ["read"]}
    },
    "POST /v1/subscription/checkout": {"json": {"tier": "crab"}},
    "POST /local/instances/{instance_id}/hooks/{hook:path}": {"json": {"text": "Hi"}},
    "PUT /local/replies": {"json": {"replies": []}},
    "PUT /local/instances/{instance_id}/replies": {"json": {"replies": []}},
    "PUT /local/instances/{instance_id}/recording": {"json": {"entries": {}}},
    "PATCH /local/instances/{instance_id}": {"json": {"egress": None}},
    "POST /local/faults": {"json": {"kind": "message"}},
    "POST /local/instances/{instance_id}/sessions/{session_id:path}/rewind": {
        "json": {"position": 0}
    },
    "PUT /local/instances/{instance_id}/breakpoint": {"json": {}},
    "POST /local/held-calls/{model_call_id}/resume": {"json": {}},
    "PUT /local/instances/{instance_id}/approvals/policy": {"json": {"ask": "always"}},
    "POST /local/instances/{instance_id}/approvals/{approval_id}": {"json": {"decision": "deny"}},
    "PATCH /local/organization": {"json": {"reuses_sandboxes": False}},
    "PUT /local/budget": {"json": {"usd": 5, "per": "day"}},
    "PUT /local/instances/{instance_id}/budget": {"json": {"usd": 5, "per": "day"}},
    "PUT /local/instances/{instance_id}/clock": {"json": {"frozen": False}},
    "POST /local/instances/{instance_id}/clock/advance": {"json": {"by": "1h"}},
    "POST /local/instances/{instance_id}/snapshots": {"json": {"name": "before"}},
    "POST /local/snapshots/{snapshot_id}/fork": {"json": {"name": "Bea"}},
    "POST /local/instances/{instance_id}/fork": {"json": {"name": "Bea"}},
    "POST /local/instances/{instance_id}/restore": {"json": {"snapshot_id": "{snapshot_id}"}},
    "POST /local/instances/{instance_id}/upgrade": {"json": {"to": "2026.9.7"}},
    "POST /local/instances/import": {"content": exported()},
    "GET /local/checkout": {"params": {"session": "{checkout}"}},
    "POST /local/checkout": {"params": {"session": "{checkout}"}},
    "GET /local/portal": {"params": {"session": "{portal}"}},
    "POST /local/portal": {"params": {"session": "{portal}", "tier": "shrimp"}},
}
"""Valid requests of the routes that need a body or a query."""

PERMISSIONS = dict(zip(("read", "intr", "conf", "file", "chan"), Permission, strict=True))


def rows() -> dict[str, list[int]]:
    """The table's cells, by route."""
    result: dict[str, list[int]] = {}
    # The cells of a long path are in the next line.
    lines = re.sub(r"\n\s+(?=\d)", " ", TABLE).strip().splitlines()
    assert lines[0].split() == list(COLUMNS)
    for line in lines[1:]:
        method, path, *cells = line.split()
        assert len(cells) == len(COLUMNS), line
        result[f"{method} {path}"] = [int(cell) for cell in cells]
    return result


def route(operation: Operation | Page) -> str:
    return f"{operation.method} {operation.path}"


def filled(value: Any, names: dict[str, str]) -> Any:
    """Replaces each `{name}` anywhere in the value."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)(:\w+)?\}", lambda result: names[result[1]], value)
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    return [filled(each, names) for each in value] if isinstance(value, list) else value


async def names_in_paths(http: Api, instance_id: str) -> dict[str, str]:
    subscriptions, organization_id = http.world.subscriptions, http.world.organization_id
    warm_sandbox = await scoped(http, InstanceId(instance_id), Permission.READ, name="warm sandbox")
    agent = await http.world.instances.get(InstanceId(instance_id))
    assert agent is not None
    snapshot = await http.world.snapshots.take(agent)
    return {
        "instance_id": instance_id,
        "snapshot_id": snapshot.id,
        "session_id": "ticket-1",
        "key_id": warm_sandbox,
        "model_call_id": "ex-0",
        "approval_id": "a-0",
        "response_id": "resp_0",
        "run": "resp_0",
        "channel": "telegram",
        "code": "ABCD2345",
        "job_id": "j-1",
        "item_id": "t-1",
        "hook": "wake",
        "fault_id": http.world.faults.add(organization_id, FaultDraft(FaultKind.STOP)).id,
        "skill_name": "weather",
        "checkout": subscriptions.checkout_session(organization_id, Tier.LOBSTER),
        "portal": subscriptions.portal_session(organization_id),
    }


async def scoped(http: Api, instance_id: InstanceId, *permissions: Permission, **more: Any) -> str:
    """A key of the organization for one instance."""
    raw_key = f"{SCOPED_PREFIX}{len(permissions)}{''.join(permissions)}{instance_id}{len(more)}"
    grants = {instance_id: frozenset(permissions)}
    await http.add_key(raw_key, is_organization_key=False, grants=grants, **more)
    return raw_key


async def keys_of(http: Api, agent: InstanceId, another: InstanceId) -> dict[str, list[str]]:
    """By column, the values of the header to try; an empty one stands for no header."""
    expired = {"expires_at": http.world.clock.now}
    revoked_key, expired_key = [
        f"{ORGANIZATION_PREFIX}{what}{agent}" for what in ("revoked", "expired")
    ]
    await http.add_key(revoked_key, is_active=False)
    await http.add_key(expired_key, **expired)
    bad = [
        f"{ORGANIZATION_PREFIX}unknown",
        f"{SCOPED_PREFIX}unknown",
        revoked_key,
        expired_key,
        await scoped(http, agent, *Permission, is_active=False),
        await scoped(http, agent, *Permission, **expired, name="expired"),
    ]
    malformed = ["", "Bearer", "Bearer ", f"Basic {http.world.key}", http.world.key]
    good = {
        "else": await scoped(http, another, *Permission),
        "all": await scoped(http, agent, *Permission),
        "other": await http.other_key(),
        "org": http.world.key,
    }
    for column, permission in PERMISSIONS.items():
        good[column] = await scoped(http, agent, permission)
    return {
        "bad": [*malformed, *(f"Bearer {key}" for key in bad)],
        **{column: [f"Bearer {key}"] for column, key in good.items()},
    }


def test_the_table_has_one_row_for_each_route() -> None:
    assert sorted(rows()) == sorted(route(each) for each in ROUTES)


@dataclass(frozen=True)
class Cast:
    """An agent, the names in paths, and the headers of each column."""

    names: dict[str, str]
    headers: dict[str, list[str]]


async def new_cast(http: Api, *, is_stopped: bool) -> Cast:
    agent = await (http.world.stopped() if is_stopped else http.world.created())
    headers = await keys_of(http, agent.id, (await http.world.created()).id)
    return Cast(await names_in_paths(http, agent.id), headers)


async def statuses(
    http: Api, operation: Operation | Page, cast: Cast, number: int
) -> dict[str, int]:
    """By column, from left to right: what is answered to its header.

    Where a column has several, every operation has its turn with another one.
    """
    path = filled(operation.path, cast.names)
    request = filled(REQUESTS.get(route(operation), {}), cast.names)
    result = {}
    for column in COLUMNS:
        header = cast.headers[column][number % len(cast.headers[column])]
        carried = {"Authorization": header} if header else {}
        answer = await http.call(operation.method, path, key=None, headers=carried, **request)
        result[column] = answer.status_code
        if answer.status_code == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer", route(operation)
    return result


def uses_up(operation: Operation | Page) -> bool:
    """Whether the call may change or remove an agent, key, snapshot or fault of the cast."""
    if operation.method not in {"POST", "DELETE"} or INSIDE.search(operation.path):
        return False
    return "{" in operation.path or operation.path in {"/local/reset", "/local/faults"}


async def test_each_kind_of_key_gets_the_status_of_the_table(http: Api) -> None:
    world = http.world
    # Several operations create agents.
    await world.organizations.move(world.organization_id, Tier.LOBSTER, is_paid_for=False)
    world.engine.memory_reading = EngineMemory(4_000_000_000_000, 4_000_000_000_000)
    # What is read beside a stopped one is there.
    world.beside.answers |= {
        "list": done(sessions=[]),
        "read": done(is_known=True, messages=[], has_more=False),
    }
    # Who follows events is then answered and sent away.
    world.events.close()
    casts: dict[bool, Cast] = {}
    result = {}
    for number, operation in enumerate(ROUTES):
        is_stopped = bool(INSIDE.search(operation.path))
        if is_stopped not in casts:
            casts[is_stopped] = await new_cast(http, is_stopped=is_stopped)
        result[route(operation)] = await statuses(http, operation, casts[is_stopped], number)
        if uses_up(operation):
            casts.clear()
    expected = {name: dict(zip(COLUMNS, cells, strict=True)) for name, cells in rows().items()}
    assert result == expected


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dTpw", "chd_org_x", "Token chd_org_x", "Bearer\t"]
)
async def test_a_header_without_a_bearer_token_is_a_401(shared: Api, header: str) -> None:
    answer = await shared.get("/v1/organization", key=None, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json() == {
        "detail": "Missing API key. Send it as 'Authorization: Bearer chd_org_…'."
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_bearer_scheme_is_case_insensitive(shared: Api, scheme: str) -> None:
    header = {"Authorization": f"{scheme}  {shared.world.key} "}
    answer = await shared.get("/v1/organization", key=None, headers=header)
    assert answer.status_code == 200


async def test_a_refusal_names_the_missing_permission(http: Api) -> None:
    agent = await http.world.created()
    reader = await scoped(http, agent.id, Permission.READ)
    path = f"/v1/instances/{agent.id}"
    expected = {
        "DELETE": "This call needs an organization key.",
        "PATCH": "This key lacks the 'configure' permission for this instance.",
    }
    for method, words in expected.items():
        answer = await http.call(method, path, key=reader)
        assert (answer.status_code, answer.json()) == (403, {"detail": words})
    answer = await http.get("/v1/organization", key="chd_org_unknown")
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid API key."})


async def test_a_scoped_key_lists_its_own_instances_only(http: Api) -> None:
    agent, another = await http.world.created(), await http.world.created()
    listed = (await http.get("/v1/instances")).json()
    assert {each["id"] for each in listed} == {agent.id, another.id}
    # The list does not depend on the permissions.
    key = await scoped(http, another.id, Permission.FILES)
    assert [each["id"] for each in (await http.get("/v1/instances", key=key)).json()] == [
        another.id
    ]


async def test_a_scoped_key_without_read_gets_null_for_what_read_guards(http: Api) -> None:
    config = {"agents.defaults.thinkingDefault": "low"}
    read, hidden = [await http.world.created(openclaw_config=config) for _ in range(2)]
    await http.world.instances.change(hidden.id, now=http.world.clock.now, error_message="Words.")
    grants = {
        read.id: frozenset({Permission.READ}),
        hidden.id: frozenset(Permission) - {Permission.READ},
    }
    await http.add_key("chd_sk_two", is_organization_key=False, grants=grants)
    whole = {each["id"]: each for each in (await http.get("/v1/instances")).json()}
    guarded = ["error_message", "gateway_url", "openclaw_config", "sandbox_id"]
    assert None not in [whole[hidden.id][name] for name in guarded]
    expected = {read.id: whole[read.id], hidden.id: whole[hidden.id] | dict.fromkeys(guarded)}
    listed = (await http.get("/v1/instances", key="chd_sk_two")).json()
    assert {each["id"]: each for each in listed} == expected
    # The answer of a change has null for it, too.
    path = f"/v1/instances/{hidden.id}"
    changed = await http.call("PATCH", path, key="chd_sk_two", json={"name": "Bea"})
    moved = {"name": "Bea", "updated_at": changed.json()["updated_at"]}
    assert changed.json() == expected[hidden.id] | moved


async def test_a_key_works_until_it_expires(http: Api) -> None:
    expires_at = http.world.clock.now + timedelta(seconds=10)
    await http.add_key("chd_org_passing", expires_at=expires_at)
    assert (await http.get("/v1/organization", key="chd_org_passing")).status_code == 200
    http.world.clock.advance(10)
    assert (await http.get("/v1/organization", key="chd_org_passing")).status_code == 401


async def test_all_organization_keys_have_the_same_access(http: Api) -> None:
    another = await http.world.authentication.issue(http.world.organization_id)
    first, second = [await http.get("/v1/organization", key=key) for key in (None, another)]
    assert (first.status_code, second.status_code) == (401, 200)
    assert second.json()["id"] == http.world.organization_id
