"""Who may call what."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.tokens import ORGANIZATION_PREFIX, SCOPED_PREFIX
from chowder_local.web.access import Access
from chowder_local.web.routes import OPERATIONS, Operation

if TYPE_CHECKING:
    from tests.web.conftest import Api

OPEN = [each for each in OPERATIONS if each.access is Access.ANYONE]
GUARDED = [each for each in OPERATIONS if each.access is not Access.ANYONE]


def address(operation: Operation) -> str:
    path = operation.path.replace("{instance_id}", "some-instance")
    return path.replace("{session_id:path}", "some-session")


def name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_only_these_routes_need_no_key() -> None:
    assert {name(each) for each in OPEN} == {
        "POST /v1/organization/signup",
        "GET /local/health",
        "GET /local/ready",
    }


@pytest.mark.parametrize("operation", GUARDED, ids=name)
async def test_a_route_needs_a_key(http: Api, operation: Operation) -> None:
    answer = await http.call(operation.method, address(operation), key=None)
    assert answer.status_code == 401
    assert answer.json() == {
        "detail": "Missing API key. Send it as 'Authorization: Bearer chd_org_…'."
    }
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", GUARDED, ids=name)
async def test_a_route_needs_a_key_that_we_gave_out(http: Api, operation: Operation) -> None:
    answer = await http.call(operation.method, address(operation), key=f"{ORGANIZATION_PREFIX}no")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Invalid API key."}


@pytest.mark.parametrize("operation", GUARDED, ids=name)
async def test_a_scoped_key_does_not_open_what_needs_an_organizations(
    http: Api, operation: Operation
) -> None:
    scoped = f"{SCOPED_PREFIX}key"
    await http.add_key(scoped, is_organization_key=False)
    answer = await http.call(operation.method, address(operation), key=scoped)
    assert answer.status_code == 403
    assert answer.json() == {"detail": "This call needs an organization key."}


@pytest.mark.parametrize("operation", OPEN, ids=name)
async def test_an_open_route_asks_for_no_key(http: Api, operation: Operation) -> None:
    answer = await http.call(operation.method, address(operation), key=None)
    assert answer.status_code != 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dTpw", "chd_org_x", "Token chd_org_x", "Bearer\t"]
)
async def test_a_header_without_a_bearer_token_is_no_key(http: Api, header: str) -> None:
    answer = await http.get("/v1/organization", key=None, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith("Missing API key.")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_schemes_name_may_be_written_in_any_case(http: Api, scheme: str) -> None:
    header = {"Authorization": f"{scheme}  {http.world.key} "}
    answer = await http.get("/v1/organization", key=None, headers=header)
    assert answer.status_code == 200


async def test_a_revoked_key_is_invalid(http: Api) -> None:
    await http.add_key("chd_org_revoked", is_active=False)
    answer = await http.get("/v1/organization", key="chd_org_revoked")
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid API key."})


async def test_a_key_is_good_until_it_expires(http: Api) -> None:
    expires_at = http.world.clock.now + timedelta(seconds=10)
    await http.add_key("chd_org_passing", expires_at=expires_at)
    assert (await http.get("/v1/organization", key="chd_org_passing")).status_code == 200
    http.world.clock.advance(10)
    assert (await http.get("/v1/organization", key="chd_org_passing")).status_code == 401


async def test_every_key_of_an_organization_opens_the_same(http: Api) -> None:
    another = await http.world.authentication.issue(http.world.organization_id)
    first, second = [await http.get("/v1/organization", key=key) for key in (None, another)]
    assert (first.status_code, second.status_code) == (401, 200)
    assert second.json()["id"] == http.world.organization_id
