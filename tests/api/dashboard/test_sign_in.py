"""Sign-in with a key or a link: the cookie, what it opens, and when it ends."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.keys import LINK_LIFE_S, SESSION_LIFE_S, sign_in_link
from chowder_local.core.domain import InstanceId, KeyId, Permission
from tests.api.dashboard.conftest import ORIGIN, Elements, Visitor

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Api

COOKIE = "chowder_5eed"


async def link(visitor: Visitor, code: str) -> httpx.Response:
    return await visitor.http.client.post(
        "/sign-in/link", data={"code": code}, headers={"Origin": ORIGIN}
    )


async def test_the_sign_in_asks_for_a_key_and_leads_back_to_the_page(stranger: Visitor) -> None:
    answer = await stranger.get("/?q=ada")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=/")
    form = await stranger.get("/sign-in?next=/somewhere")
    assert form.status_code == 200
    assert Elements(form.text).all("input", name="next", value="/somewhere")
    (field,) = Elements(form.text).all("input", name="key")
    assert field["type"] == "password"


async def test_the_cookie_is_strict_and_does_not_contain_the_key(
    stranger: Visitor,
) -> None:
    answer = await stranger.sign_in()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie.key == COOKIE
    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("strict", "/", "")
    assert int(cookie["max-age"]) == SESSION_LIFE_S
    assert stranger.http.world.key not in answer.headers["Set-Cookie"]
    assert (await stranger.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "is_secure"),
    [
        ({}, False),
        ({"X-Forwarded-Proto": "http"}, False),
        ({"X-Forwarded-Proto": "https, http"}, True),
        ({"Origin": ORIGIN.replace("http:", "https:")}, True),
    ],
)
async def test_behind_a_tls_proxy_the_cookie_is_secure(
    stranger: Visitor, headers: dict[str, str], is_secure: bool
) -> None:
    sent = {"Origin": ORIGIN} | headers
    form = {"key": stranger.http.world.key}
    answer = await stranger.http.client.post("/sign-in", data=form, headers=sent)
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert bool(cookie["secure"]) is is_secure


async def test_a_session_is_no_key_for_the_api(visitor: Visitor) -> None:
    session = visitor.http.client.cookies[COOKIE]
    for key in (None, session):
        assert (await visitor.http.get("/v1/instances", key=key)).status_code == 401
        assert (await visitor.http.get("/local/events", key=key)).status_code == 401


async def test_a_wrong_key_is_refused_without_repeating_it(stranger: Visitor) -> None:
    for key in ("", "chd_org_unknown", "hello"):
        answer = await stranger.sign_in(key)
        assert answer.status_code == 401, key
        assert "Set-Cookie" not in answer.headers, key
        assert "API key" in answer.text, key
        assert not key or key not in answer.text.replace("chd_org_…", ""), key


async def test_a_scoped_key_cannot_sign_in(http: Api, stranger: Visitor) -> None:
    agent = await http.world.created()
    grants = {InstanceId(agent.id): frozenset(Permission)}
    await http.add_key("chd_sk_all", is_organization_key=False, grants=grants)
    answer = await stranger.sign_in("chd_sk_all")
    assert answer.status_code == 403
    assert "needs an organization key" in answer.text
    assert "Set-Cookie" not in answer.headers


async def test_a_session_ends_with_its_key(http: Api, stranger: Visitor) -> None:
    await http.add_key("chd_org_second")
    await stranger.sign_in("chd_org_second")
    assert (await stranger.get("/")).status_code == 200
    await http.world.key_queries.revoke(KeyId("chd_org_second"))
    assert (await stranger.get("/")).status_code == 303


async def test_a_session_ends_after_a_week(visitor: Visitor) -> None:
    visitor.http.world.clock.advance(SESSION_LIFE_S - 1)
    assert (await visitor.get("/")).status_code == 200
    visitor.http.world.clock.advance(2)
    assert (await visitor.get("/")).status_code == 303


async def test_signing_out_ends_every_copy_of_the_cookie(visitor: Visitor) -> None:
    session = visitor.http.client.cookies[COOKIE]
    answer = await visitor.post("/sign-out")
    assert answer.headers["HX-Redirect"] == "/sign-in"
    assert COOKIE not in visitor.http.client.cookies
    visitor.http.client.cookies.set(COOKIE, session)
    assert (await visitor.get("/")).status_code == 303


async def test_signing_out_ends_only_its_own_session(visitor: Visitor) -> None:
    first = visitor.http.client.cookies[COOKIE]
    await visitor.sign_in()
    await visitor.post("/sign-out")
    visitor.http.client.cookies.set(COOKIE, first)
    assert (await visitor.get("/")).status_code == 200


async def test_an_invalid_cookie_opens_no_page(stranger: Visitor) -> None:
    for forged in ("", "x", "é", "gAAAAA==", "chd_org_x"):
        cookie = f"{COOKIE}={forged}".encode()
        answer = await stranger.http.client.get("/", headers=[(b"cookie", cookie)])
        assert answer.status_code == 401, forged


async def test_sessions_and_checkout_links_are_not_interchangeable(visitor: Visitor) -> None:
    world, client = visitor.http.world, visitor.http.client
    session = client.cookies[COOKIE]
    answer = await client.get("/local/portal", params={"session": session})
    assert answer.status_code == 400
    client.cookies.set(COOKIE, world.subscriptions.portal_session(world.organization_id))
    assert (await visitor.get("/")).status_code == 303


async def test_a_link_signs_in_once(stranger: Visitor) -> None:
    world = stranger.http.world
    code = sign_in_link(world.secret_box, world.key, world.clock())
    assert world.key not in code
    answer = await link(stranger, code)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert (await stranger.get("/")).status_code == 200
    again = await link(stranger, code)
    assert again.status_code == 403
    assert "used already" in again.text


async def test_a_link_expires_after_two_minutes_and_with_its_key(stranger: Visitor) -> None:
    world = stranger.http.world
    late = sign_in_link(world.secret_box, world.key, world.clock())
    unknown = sign_in_link(world.secret_box, "chd_org_unknown", world.clock())
    for code in (unknown, "", "x", world.subscriptions.portal_session(world.organization_id)):
        assert (await link(stranger, code)).status_code == 403
    world.clock.advance(LINK_LIFE_S + 1)
    assert (await link(stranger, late)).status_code == 403


ELSEWHERE = ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\t/x", "/é"]


async def test_signing_in_redirects_to_no_other_site(stranger: Visitor) -> None:
    targets = {}
    for elsewhere in ELSEWHERE:
        form = {"key": stranger.http.world.key, "next": elsewhere}
        sent = {"Origin": ORIGIN}
        answer = await stranger.http.client.post("/sign-in", data=form, headers=sent)
        targets[elsewhere] = answer.headers["Location"]
        stranger.http.client.cookies.clear()
    assert targets == dict.fromkeys(ELSEWHERE, "/")


async def test_the_sign_in_redirects_a_signed_in_user(visitor: Visitor) -> None:
    answer = await visitor.get("/sign-in?next=/%3Fq%3Dada")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?q=ada")
