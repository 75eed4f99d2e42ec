"""Keys: permissions, the order of checks, and the end of keys."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance import published
from chowder_local.conformance.client import ENDS, NOWHERE, calls, send_harmless
from chowder_local.conformance.drift import allowed, answered, fits, invalid, refused, rejected
from chowder_local.conformance.published import PERMISSIONS
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

    NewKey = Callable[..., dict[str, Any]]

BREACHES: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "x" * 129),
    ("instance_ids", "text"),
    ("permissions", ["everything"]),
    ("permissions", "read"),
    ("expires_at", "tomorrow"),
]
"""Invalid values for the members of a new key."""
BAD_KEYS = ("nonsense", "chd_org_nonsense", "chd_sk_nonsense")


@pytest.mark.read_only
def test_a_call_without_a_key_or_with_a_bad_one_is_refused(
    api: ContractClient, anyone: ContractClient
) -> None:
    guarded = calls("any", "organization", *PERMISSIONS)
    with ExitStack() as stack, every_row() as row:
        strangers = [stack.enter_context(api.with_key(key)) for key in BAD_KEYS]
        for (operation, _), stranger in zip(guarded, cycle(strangers), strict=False):
            for client in (anyone, stranger):
                with row(f"{operation} with {client.headers.get('Authorization')}"):
                    refused(send_harmless(client, operation), 401)


def test_a_permission_allows_its_calls_only(agent: str, scoped: dict[str, ContractClient]) -> None:
    with every_row() as row:
        for operation, call in calls(*PERMISSIONS):
            for permission, client in scoped.items():
                with row(f"{operation} with the permission {permission}"):
                    answer = send_harmless(client, operation, agent)
                    if permission == call.access:
                        allowed(answer)
                    else:
                        refused(answer, 403)


def test_a_scoped_key_allows_no_call_for_organization_keys(
    api: ContractClient, agent: str, new_key: NewKey
) -> None:
    with api.with_key(new_key(agent, *PERMISSIONS)["raw_key"]) as client, every_row() as row:
        for operation, _ in calls("organization"):
            with row(operation):
                refused(send_harmless(client, operation, agent), 403)


def test_a_scoped_key_sees_its_own_instance(
    agent: str, scoped: dict[str, ContractClient], judge: Judge
) -> None:
    for permission in ("read", "interact"):
        (seen,) = answered(scoped[permission].get("instances"))
        assert seen["id"] == agent
        if permission == "interact":
            judge("scoped-without-read", seen)


@pytest.mark.read_only
def test_an_unknown_instance_is_not_found_before_the_body_is_checked(
    api: ContractClient, judge: Judge
) -> None:
    words = published.read().messages["instance_not_found"]
    with every_row() as row:
        for operation, _ in calls(*PERMISSIONS):
            with row(operation):
                refused(send_harmless(api, operation), 404, words=words)
            with row(f"{operation} with a malformed id"):
                answer = send_harmless(api, operation, "no-uuid")
                judge("malformed-ids", answer.status_code)
                rejected(answer)


@pytest.mark.stays
def test_an_instance_of_another_organization_is_not_found(
    newcomer: ContractClient, creation: dict[str, Any]
) -> None:
    words = published.read().messages["instance_not_found"]
    with every_row() as row:
        for operation in (*(name for name, _ in calls(*PERMISSIONS)), *ENDS):
            with row(operation):
                refused(send_harmless(newcomer, operation, creation["id"]), 404, words=words)


@pytest.mark.stays
def test_a_key_of_another_organization_is_not_found(
    newcomer: ContractClient, agent: str, new_key: NewKey
) -> None:
    key = new_key(agent, "read")
    refused(newcomer.get(f"keys/{key['id']}"), 404)
    refused(newcomer.delete(f"keys/{key['id']}"), 404)


def test_a_new_key_is_returned_with_its_token_once(
    api: ContractClient, agent: str, new_key: NewKey, judge: Judge
) -> None:
    key = new_key(agent, "read", "interact")
    # A failed assertion shows what is compared.
    is_scoped_key = key["raw_key"].startswith("chd_sk_")
    assert is_scoped_key
    judge("key-prefix", key["key_prefix"])
    has_prefix = key["raw_key"].startswith(key["key_prefix"].rstrip("."))
    assert has_prefix
    assert (key["is_active"], key["expires_at"], key["last_used_at"]) == (True, None, None)

    shown = answered(api.get(f"keys/{key['id']}"))
    assert [grant["instance_id"] for grant in shown["instances"]] == [agent]
    assert set(shown["instances"][0]["permissions"]) == {"read", "interact"}

    (found,) = [each for each in answered(api.get("keys")) if each["id"] == key["id"]]
    assert found == {name: value for name, value in shown.items() if name != "instances"}


def test_a_used_key_has_the_time_of_its_last_use(
    api: ContractClient, agent: str, new_key: NewKey
) -> None:
    key = new_key(agent, "read")
    with api.with_key(key["raw_key"]) as client:
        answered(client.get(f"instances/{agent}/status"))
    fits(answered(api.get(f"keys/{key['id']}"))["last_used_at"], "time", "getKey")


def test_a_revoked_key_is_refused_at_once(api: ContractClient, agent: str, new_key: NewKey) -> None:
    key = new_key(agent, "read")
    with api.with_key(key["raw_key"]) as client:
        answered(client.get(f"instances/{agent}"))
        answered(api.delete(f"keys/{key['id']}"))
        refused(client.get(f"instances/{agent}"), 401)
    assert answered(api.get(f"keys/{key['id']}"))["is_active"] is False
    (found,) = [each for each in answered(api.get("keys")) if each["id"] == key["id"]]
    assert found["is_active"] is False


@pytest.mark.slow
def test_a_key_ends_when_it_expires(api: ContractClient, agent: str, new_key: NewKey) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=3)
    key = new_key(agent, "read", expires_at=ends_at.isoformat())
    with api.with_key(key["raw_key"]) as client:
        answer = client.get(f"instances/{agent}")
        # A slow service may answer too late.
        if datetime.now(UTC) < ends_at:
            answered(answer)
        # The server does not announce that a key expires, so the test has to wait for the time.
        while datetime.now(UTC) < ends_at + timedelta(seconds=1):
            time.sleep(0.2)
        refused(client.get(f"instances/{agent}"), 401)
    assert answered(api.get(f"keys/{key['id']}"))["is_active"] is False


def test_an_invalid_or_incomplete_new_key_is_refused(api: ContractClient, agent: str) -> None:
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


def test_a_key_for_an_unknown_instance_is_not_made(api: ContractClient) -> None:
    body = {"name": "never made", "instance_ids": [NOWHERE], "permissions": ["read"]}
    refused(api.post("keys", json=body), 404)


@pytest.mark.read_only
def test_an_unknown_key_is_not_found(api: ContractClient, judge: Judge) -> None:
    refused(api.get(f"keys/{NOWHERE}"), 404)
    refused(api.delete(f"keys/{NOWHERE}"), 404)
    judge("malformed-ids", api.get("keys/no-uuid").status_code)
    judge("malformed-ids", api.delete("keys/no-uuid").status_code)
