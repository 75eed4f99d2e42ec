"""Scoped keys over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, Permission

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

MEMBERS = {
    "id", "organization_id", "name", "key_prefix", "is_active", "expires_at", "last_used_at",
    "created_at",
}  # fmt: skip


async def create_key(http: Api, **fields: Any) -> dict[str, Any]:
    """A new key of the organization."""
    answer = await http.post("/v1/keys", json=await key_request(http) | fields)
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def key_request(http: Api) -> dict[str, Any]:
    return key_request_for(await http.world.created())


def key_request_for(instance: Instance) -> dict[str, Any]:
    return {"name": "ci", "instance_ids": [instance.id], "permissions": ["read", "interact"]}


async def test_only_a_new_key_has_its_token(http: Api) -> None:
    body = await key_request(http)
    answer = await http.post("/v1/keys", json=body)
    key = answer.json()
    assert answer.status_code == 201
    assert set(key) == {*MEMBERS, "raw_key"}
    assert key["raw_key"].startswith("chd_sk_")
    assert key["raw_key"].startswith(key["key_prefix"])
    assert len(key["key_prefix"]) < len(key["raw_key"]) / 2
    assert (key["name"], key["is_active"]) == ("ci", True)
    assert (key["expires_at"], key["last_used_at"]) == (None, None)
    assert key["organization_id"] == http.world.organization_id
    assert key["created_at"].endswith("Z")
    for path in ("/v1/keys", f"/v1/keys/{key['id']}"):
        assert key["raw_key"] not in (await http.get(path)).text


async def test_the_list_has_every_key_with_its_members(http: Api) -> None:
    keys = []
    for name in ("one", "two"):
        keys.append(await create_key(http, name=name))
        http.world.clock.advance(1)
    listed = (await http.get("/v1/keys")).json()
    assert [each["id"] for each in listed] == [each["id"] for each in keys]
    assert all(set(each) == MEMBERS for each in listed)


async def test_one_key_has_its_permissions(http: Api) -> None:
    one, two = await http.world.created(), await http.world.created()
    key = await create_key(
        http, instance_ids=[one.id, two.id, one.id], permissions=["files", "read", "files"]
    )
    details = (await http.get(f"/v1/keys/{key['id']}")).json()
    assert set(details) == {*MEMBERS, "instances"}
    permissions = ["read", "files"]
    assert details["instances"] == [
        {"instance_id": instance_id, "permissions": permissions}
        for instance_id in sorted([one.id, two.id])
    ]


async def test_a_revoked_key_is_refused_at_once(http: Api) -> None:
    key = await create_key(http)
    assert (await http.get("/v1/instances", key=key["raw_key"])).status_code == 200
    answer = await http.call("DELETE", f"/v1/keys/{key['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    refused = await http.get("/v1/instances", key=key["raw_key"])
    assert (refused.status_code, refused.json()) == (401, {"detail": "Invalid API key."})
    assert [each["is_active"] for each in (await http.get("/v1/keys")).json()] == [False]
    assert (await http.get(f"/v1/keys/{key['id']}")).json()["is_active"] is False
    # Again, as a client does if the first answer was lost.
    assert (await http.call("DELETE", f"/v1/keys/{key['id']}")).status_code == 204


async def test_the_next_list_has_the_last_use(http: Api) -> None:
    key = await create_key(http)
    for _ in range(2):
        http.world.clock.advance(1)
        await http.get("/v1/instances", key=key["raw_key"])
        (listed,) = (await http.get("/v1/keys")).json()
        assert listed["last_used_at"] == http.world.clock.now.isoformat().replace("+00:00", "Z")


async def test_an_expired_key_is_refused_and_inactive(http: Api) -> None:
    expires_at = http.world.clock.now + timedelta(hours=1)
    key = await create_key(http, expires_at=expires_at.isoformat())
    assert (await http.get("/v1/instances", key=key["raw_key"])).status_code == 200
    http.world.clock.advance(3600)
    assert (await http.get("/v1/instances", key=key["raw_key"])).status_code == 401
    assert (await http.get("/v1/keys")).json()[0]["is_active"] is False


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2027-01-01T10:00:00", "2027-01-01T10:00:00Z"),
        ("2027-01-01T10:00:00Z", "2027-01-01T10:00:00Z"),
        ("2027-01-01T12:00:00+02:00", "2027-01-01T10:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
async def test_an_expiry_is_stored_in_utc(http: Api, given: str, kept: str) -> None:
    assert (await create_key(http, expires_at=given))["expires_at"] == kept


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("name", "x" * 129, "string_too_long"),
        ("instance_ids", ["id"] * 1001, "too_long"),
        ("permissions", ["write"], "enum"),
        ("expires_at", "soon", "datetime_from_date_parsing"),
        ("expires_at", "2020-01-01T00:00:00Z", "datetime_future"),
        ("expires_at", "2026-05-04T03:02:01Z", "datetime_future"),
        ("expires_at", "9999-12-31T23:59:59-14:00", "value_error"),
        ("expires_at", "0001-01-01T00:00:00+14:00", "value_error"),
    ],
)
async def test_an_invalid_key_is_a_422_that_names_the_field(
    shared: Api, agent: Instance, field: str, value: Any, kind: str
) -> None:
    answer = await shared.post("/v1/keys", json=key_request_for(agent) | {field: value})
    assert answer.status_code == 422
    problem = answer.json()["detail"][0]
    assert problem["loc"][:2] == ["body", field]
    assert problem["type"] == kind
    assert (await shared.get("/v1/keys")).json() == []


async def test_a_key_for_an_unknown_instance_is_a_404(http: Api) -> None:
    gone = await http.world.placed(InstanceStatus.TERMINATED)
    foreign = await http.post("/v1/instances", json={"name": "Eve"}, key=await http.other_key())
    for wrong in (gone.id, foreign.json()["id"], "x\0y"):
        answer = await http.post(
            "/v1/keys", json=await key_request(http) | {"instance_ids": [wrong]}
        )
        assert (answer.status_code, answer.json()) == (404, {"detail": "Instance not found."})


async def test_an_unknown_key_is_a_404(http: Api) -> None:
    for method in ("GET", "DELETE"):
        answer = await http.call(method, "/v1/keys/none")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Key not found."})


async def test_the_organization_key_is_not_a_scoped_key(http: Api) -> None:
    own = (await http.world.authentication.caller(http.world.key)).key_id
    assert (await http.get("/v1/keys")).json() == []
    assert (await http.call("DELETE", f"/v1/keys/{own}")).status_code == 404
    assert (await http.get("/v1/organization")).status_code == 200


async def test_a_key_of_a_terminated_instance_stays_for_its_other_ones(http: Api) -> None:
    one, two = await http.world.created(), await http.world.created()
    every = [str(permission) for permission in Permission]
    key = await create_key(http, instance_ids=[one.id, two.id], permissions=every)
    assert (await http.call("DELETE", f"/v1/instances/{one.id}")).status_code == 204
    listed = (await http.get("/v1/instances", key=key["raw_key"])).json()
    assert [each["id"] for each in listed] == [two.id]
    message = {"model": "gpt-4o", "input": "Hi"}
    answer = await http.post(f"/v1/instances/{one.id}/responses", json=message, key=key["raw_key"])
    assert answer.status_code == 404
    details = (await http.get(f"/v1/keys/{key['id']}")).json()
    assert {each["instance_id"] for each in details["instances"]} == {two.id}
