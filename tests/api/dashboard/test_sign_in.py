"""Signing in with a key, once: what the browser then has, what it opens, and when that ends."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.dashboard_sessions import LINK_LIFE_S, SESSION_LIFE_S, sign_in_link
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


async def test_whoever_is_not_signed_in_is_asked_for_a_key_and_led_back(stranger: Visitor) -> None:
    asked = await stranger.get("/?q=ada")
    assert (asked.status_code, asked.headers["Location"]) == (303, "/sign-in?next=/")
    form = await stranger.get("/sign-in?next=/somewhere")
    assert form.status_code == 200
    assert Elements(form.text).all("input", name="next", value="/somewhere")
    (field,) = Elements(form.text).all("input", name="key")
    assert field["type"] == "password"


async def test_the_cookie_is_for_pages_of_this_server_only_and_is_not_the_key(
    stranger: Visitor,
) -> None:
    answer = await stranger.signed_in()
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
async def test_behind_a_proxy_with_tls_the_cookie_is_for_https_only(
    stranger: Visitor, headers: dict[str, str], is_secure: bool
) -> None:
    sent = {"Origin": ORIGIN} | headers
    form = {"key": stranger.http.world.key}
    answer = await stranger.http.client.post("/sign-in", data=form, headers=sent)
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert bool(cookie["secure"]) is is_secure


async def test_a_session_opens_nothing_of_the_api(visitor: Visitor) -> None:
    session = visitor.http.client.cookies[COOKIE]
    for key in (None, session):
        assert (await visitor.http.get("/v1/instances", key=key)).status_code == 401
        assert (await visitor.http.get("/local/events", key=key)).status_code == 401


async def test_a_wrong_key_is_refused_with_words_and_not_repeated(stranger: Visitor) -> None:
    for key in ("", "chd_org_unknown", "hello"):
        answer = await stranger.signed_in(key)
        assert answer.status_code == 401, key
        assert "Set-Cookie" not in answer.headers, key
        assert "API key" in answer.text, key
        assert not key or key not in answer.text.replace("chd_org_…", ""), key


async def test_a_scoped_key_opens_no_page(http: Api, stranger: Visitor) -> None:
    agent = await http.world.created()
    grants = {InstanceId(agent.id): frozenset(Permission)}
    await http.add_key("chd_sk_all", is_organization_key=False, grants=grants)
    answer = await stranger.signed_in("chd_sk_all")
    assert answer.status_code == 403
    assert "needs an organization key" in answer.text
    assert "Set-Cookie" not in answer.headers


async def test_a_session_ends_with_its_key(http: Api, stranger: Visitor) -> None:
    await http.add_key("chd_org_second")
    await stranger.signed_in("chd_org_second")
    assert (await stranger.get("/")).status_code == 200
    await http.world.keys.revoke(KeyId("chd_org_second"))
    assert (await stranger.get("/")).status_code == 303


async def test_a_session_ends_after_a_week(visitor: Visitor) -> None:
    visitor.http.world.clock.advance(SESSION_LIFE_S - 1)
    assert (await visitor.get("/")).status_code == 200
    visitor.http.world.clock.advance(2)
    assert (await visitor.get("/")).status_code == 303


async def test_signing_out_ends_every_copy_of_the_cookie(visitor: Visitor) -> None:
    session = visitor.http.client.cookies[COOKIE]
    answer = await visitor.sent("/sign-out")
    assert answer.headers["HX-Redirect"] == "/sign-in"
    assert COOKIE not in visitor.http.client.cookies
    visitor.http.client.cookies.set(COOKIE, session)
    assert (await visitor.get("/")).status_code == 303


async def test_who_signs_out_elsewhere_stays_signed_in_here(visitor: Visitor) -> None:
    first = visitor.http.client.cookies[COOKIE]
    await visitor.signed_in()
    await visitor.sent("/sign-out")
    visitor.http.client.cookies.set(COOKIE, first)
    assert (await visitor.get("/")).status_code == 200


async def test_what_is_no_session_of_ours_opens_nothing(stranger: Visitor) -> None:
    for forged in ("", "x", "é", "gAAAAA==", "chd_org_x"):
        cookie = f"{COOKIE}={forged}".encode()
        answer = await stranger.http.client.get("/", headers=[(b"cookie", cookie)])
        assert answer.status_code == 401, forged


async def test_a_checkouts_link_is_no_session_and_a_session_no_checkouts(visitor: Visitor) -> None:
    world, client = visitor.http.world, visitor.http.client
    session = client.cookies[COOKIE]
    answer = await client.get("/local/portal", params={"session": session})
    assert answer.status_code == 400
    client.cookies.set(COOKIE, world.subscriptions.portal_session(world.organization_id))
    assert (await visitor.get("/")).status_code == 303


async def test_a_link_signs_in_once(stranger: Visitor) -> None:
    world = stranger.http.world
    code = sign_in_link(world.box, world.key, world.clock())
    assert world.key not in code
    answer = await link(stranger, code)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert (await stranger.get("/")).status_code == 200
    again = await link(stranger, code)
    assert again.status_code == 403
    assert "used already" in again.text


async def test_a_link_is_good_for_two_minutes_and_for_a_good_key(stranger: Visitor) -> None:
    world = stranger.http.world
    late = sign_in_link(world.box, world.key, world.clock())
    unknown = sign_in_link(world.box, "chd_org_unknown", world.clock())
    for code in (unknown, "", "x", world.subscriptions.portal_session(world.organization_id)):
        assert (await link(stranger, code)).status_code == 403
    world.clock.advance(LINK_LIFE_S + 1)
    assert (await link(stranger, late)).status_code == 403


ELSEWHERE = ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\t/x", "/é"]


async def test_signing_in_leads_nowhere_else(stranger: Visitor) -> None:
    led = {}
    for elsewhere in ELSEWHERE:
        form = {"key": stranger.http.world.key, "next": elsewhere}
        sent = {"Origin": ORIGIN}
        answer = await stranger.http.client.post("/sign-in", data=form, headers=sent)
        led[elsewhere] = answer.headers["Location"]
        stranger.http.client.cookies.clear()
    assert led == dict.fromkeys(ELSEWHERE, "/")


async def test_who_is_signed_in_need_not_sign_in(visitor: Visitor) -> None:
    answer = await visitor.get("/sign-in?next=/%3Fq%3Dada")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?q=ada")
