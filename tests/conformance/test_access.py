"""Keys: permissions, the order of checks, and the end of keys."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.rows import every_row
from tests.conformance.shapes import (
    GRANT,
    INSTANCE,
    KEY,
    KEY_DETAILS,
    NEW_KEY,
    PERMISSIONS,
    answered,
    fits,
    invalid,
    listed,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.client import Client

    NewKey = Callable[..., dict[str, Any]]

NOT_FOUND = "Instance not found."
NOWHERE = str(uuid.UUID(int=0))

OF_INSTANCE: list[tuple[str, str, str, Any]] = [
    ("read", "GET", "", None),
    ("read", "GET", "/status", None),
    ("interact", "POST", "/responses", {}),
    ("interact", "POST", "/session/a-session/responses", {}),
    ("configure", "PATCH", "", {}),
    ("configure", "GET", "/skills", None),
    ("configure", "GET", "/skills/no-such-skill", None),
    ("configure", "POST", "/skills/install", {}),
    ("configure", "PATCH", "/skills/no-such-skill", {"enabled": "neither"}),
    ("files", "GET", "/files", None),
    ("files", "GET", "/files/content?path=openclaw.json", None),
    ("files", "PUT", "/files/content", {}),
    ("files", "POST", "/files/upload", None),
    ("files", "GET", "/files/download?path=openclaw.json", None),
    ("channels", "GET", "/channels", None),
    ("channels", "POST", "/channels/telegram/connect", {}),
    ("channels", "GET", "/channels/telegram/status", None),
    ("channels", "POST", "/channels/telegram/pair", {}),
]
"""The calls of each permission; with these bodies, no call changes anything."""

OF_ORGANIZATION: list[tuple[str, str, Any]] = [
    ("GET", "organization", None),
    ("PATCH", "organization", {}),
    ("POST", "instances", {}),
    ("POST", "keys", {}),
    ("GET", "keys", None),
    ("GET", f"keys/{NOWHERE}", None),
    ("DELETE", f"keys/{NOWHERE}", None),
    ("GET", "subscription", None),
    ("POST", "subscription/checkout", {}),
    ("POST", "subscription/portal", None),
    ("POST", "instances/{id}/stop", None),
    ("POST", "instances/{id}/start", None),
    ("DELETE", "instances/{id}", None),
]
"""Calls that need an organization key; with these bodies, only the last three change anything."""


BREACHES: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "x" * 129),
    ("instance_ids", "text"),
    ("permissions", ["everything"]),
    ("permissions", "read"),
    ("expires_at", "tomorrow"),
]
"""Invalid values for the members of a new key."""


def call(client: Client, method: str, path: str, body: Any) -> Any:
    return client.request(method, path, **({} if body is None else {"json": body}))


EVERY_CALL = [
    *((method, f"instances/{{id}}{below}", body) for _, method, below, body in OF_INSTANCE),
    *OF_ORGANIZATION,
    ("GET", "instances", None),
]
BAD_KEYS = ("nonsense", "chd_org_nonsense", "chd_sk_nonsense")


def test_a_call_without_a_key_or_with_a_bad_one_is_refused(api: Client, anyone: Client) -> None:
    with ExitStack() as stack, every_row() as row:
        strangers = [stack.enter_context(api.with_key(key)) for key in BAD_KEYS]
        for (method, path, body), stranger in zip(EVERY_CALL, cycle(strangers), strict=False):
            for client in (anyone, stranger):
                with row(f"{method} {path} with {client.headers.get('Authorization')}"):
                    refused(call(client, method, path.replace("{id}", NOWHERE), body), 401)


def test_a_permission_allows_its_calls_only(agent: str, scoped: dict[str, Client]) -> None:
    with every_row() as row:
        for needed, method, below, body in OF_INSTANCE:
            for permission, client in scoped.items():
                with row(f"{method} {below} with the permission {permission}"):
                    answer = call(client, method, f"instances/{agent}{below}", body)
                    if permission == needed:
                        assert answer.status_code in {200, 204, 404, 422}, answer.text
                    else:
                        refused(answer, 403)


def test_a_scoped_key_allows_no_call_for_organization_keys(
    api: Client, agent: str, new_key: NewKey
) -> None:
    with api.with_key(new_key(agent, *PERMISSIONS)["raw_key"]) as client, every_row() as row:
        for method, path, body in OF_ORGANIZATION:
            with row(f"{method} {path}"):
                refused(call(client, method, path.replace("{id}", agent), body), 403)


def test_a_scoped_key_sees_its_own_instance(agent: str, scoped: dict[str, Client]) -> None:
    seen = [each["id"] for each in listed(scoped["read"].get("instances"), INSTANCE)]
    assert seen == [agent]


def test_an_unknown_instance_is_not_found_before_the_body_is_checked(api: Client) -> None:
    with every_row() as row:
        for _, method, below, body in OF_INSTANCE:
            for instance_id in (NOWHERE, "no-uuid"):
                with row(f"{method} {instance_id}{below}"):
                    answer = call(api, method, f"instances/{instance_id}{below}", body)
                    refused(answer, 404, words=NOT_FOUND)


@pytest.mark.stays
def test_an_instance_of_another_organization_is_not_found(
    newcomer: Client, creation: dict[str, Any]
) -> None:
    ends: list[tuple[str, str, Any]] = [
        ("POST", "/stop", None),
        ("POST", "/start", None),
        ("DELETE", "", None),
    ]
    with every_row() as row:
        for method, below, body in [each[1:] for each in OF_INSTANCE] + ends:
            with row(f"{method} {below}"):
                answer = call(newcomer, method, f"instances/{creation['id']}{below}", body)
                refused(answer, 404, words=NOT_FOUND)


@pytest.mark.stays
def test_a_key_of_another_organization_is_not_found(
    newcomer: Client, agent: str, new_key: NewKey
) -> None:
    key = new_key(agent, "read")
    refused(newcomer.get(f"keys/{key['id']}"), 404)
    refused(newcomer.delete(f"keys/{key['id']}"), 404)


def test_a_new_key_is_returned_with_its_token_once(
    api: Client, agent: str, new_key: NewKey
) -> None:
    key = new_key(agent, "read", "interact")
    fits(key, NEW_KEY)
    assert key["raw_key"].startswith("chd_sk_")
    assert key["raw_key"].startswith(key["key_prefix"])
    assert (key["is_active"], key["expires_at"], key["last_used_at"]) == (True, None, None)

    shown = answered(api.get(f"keys/{key['id']}"), 200, KEY_DETAILS)
    for grant in shown["instances"]:
        fits(grant, GRANT)
    assert [grant["instance_id"] for grant in shown["instances"]] == [agent]
    assert set(shown["instances"][0]["permissions"]) == {"read", "interact"}

    (found,) = [each for each in listed(api.get("keys"), KEY) if each["id"] == key["id"]]
    assert found == {name: shown[name] for name in KEY}


def test_a_used_key_has_the_time_of_its_last_use(api: Client, agent: str, new_key: NewKey) -> None:
    key = new_key(agent, "read")
    with api.with_key(key["raw_key"]) as client:
        answered(client.get(f"instances/{agent}/status"), 200)
    assert answered(api.get(f"keys/{key['id']}"), 200)["last_used_at"] is not None


def test_a_revoked_key_is_refused_at_once(api: Client, agent: str, new_key: NewKey) -> None:
    key = new_key(agent, "read")
    with api.with_key(key["raw_key"]) as client:
        answered(client.get(f"instances/{agent}"), 200)
        answered(api.delete(f"keys/{key['id']}"), 204)
        refused(client.get(f"instances/{agent}"), 401)
    assert answered(api.get(f"keys/{key['id']}"), 200)["is_active"] is False
    (found,) = [each for each in listed(api.get("keys"), KEY) if each["id"] == key["id"]]
    assert found["is_active"] is False


@pytest.mark.slow
def test_a_key_ends_when_it_expires(api: Client, agent: str, new_key: NewKey) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=3)
    key = new_key(agent, "read", expires_at=ends_at.isoformat())
    with api.with_key(key["raw_key"]) as client:
        answered(client.get(f"instances/{agent}"), 200)
        while datetime.now(UTC) < ends_at + timedelta(seconds=1):
            time.sleep(0.2)
        refused(client.get(f"instances/{agent}"), 401)
    assert answered(api.get(f"keys/{key['id']}"), 200)["is_active"] is False


def test_an_invalid_or_incomplete_new_key_is_refused(api: Client, agent: str) -> None:
    body = {"name": "never made", "instance_ids": [agent], "permissions": ["read"]}
    with every_row() as row:
        for field, value in BREACHES:
            with row(f"{field}={value!r}"):
                invalid(api.post("keys", json=body | {field: value}), "body", field)
        for field in body:
            with row(f"without {field}"):
                lacking = {name: value for name, value in body.items() if name != field}
                (problem,) = invalid(api.post("keys", json=lacking), "body", field)
                assert problem["type"] == "missing"


def test_an_unknown_key_is_not_found(api: Client) -> None:
    for key_id in (NOWHERE, "no-uuid"):
        refused(api.get(f"keys/{key_id}"), 404)
        refused(api.delete(f"keys/{key_id}"), 404)


def test_every_permission_is_tested() -> None:
    assert {needed for needed, *_ in OF_INSTANCE} == set(PERMISSIONS)
