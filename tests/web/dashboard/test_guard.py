"""Every page of the dashboard: who opens it, from where it may be told to act, and its headers."""

from __future__ import annotations

import re

import pytest

from chowder_local.accounts.keys import KeyDraft
from chowder_local.domain import Permission
from chowder_local.faults import FaultDraft, FaultKind
from chowder_local.web.dashboard.routes import PAGES, Page
from chowder_local.web.dashboard.tabs import TABS
from tests.web.conftest import ALLOWED_ORIGIN
from tests.web.dashboard.conftest import NAVIGATING, ORIGIN, Elements, Visitor

CLOSED = [each for each in PAGES if not each.is_open]
ACTIONS = [each for each in PAGES if each.method != "GET"]
OTHERS = [
    {"Origin": "http://server.test:3000"},
    {"Origin": "http://localhost:3000"},
    {"Origin": ALLOWED_ORIGIN},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {},
]
"""Where a request may come from that is none of our pages; a browser says at least one of them."""


def name(page: Page) -> str:
    return f"{page.method} {page.path}"


async def address(page: Page, visitor: Visitor) -> str:
    if "{" not in page.path:
        return page.path
    agent = await visitor.http.world.created()
    call = visitor.http.services.exchanges.begin(
        agent.organization_id, agent.id, "openai", "v1/chat/completions", b"{}"
    )
    draft = KeyDraft("ours", [agent.id], [Permission.READ])
    key, _ = await visitor.http.services.keys.create(agent.organization_id, draft)
    fault = visitor.http.services.faults.add(agent.organization_id, FaultDraft(FaultKind.MESSAGE))
    places = {
        "instance_id": agent.id, "exchange_id": call.id, "token": "none", "key_id": key.id,
        "fault_id": fault.id, "position": "1", "channel": "telegram",
    }  # fmt: skip
    if "{snapshot_id}" in page.path:
        places["snapshot_id"] = (await visitor.http.services.snapshots.take(agent)).id
    return page.path.format(**places)


@pytest.mark.parametrize("page", CLOSED, ids=name)
async def test_nothing_is_shown_or_done_without_signing_in(stranger: Visitor, page: Page) -> None:
    path = await address(page, stranger)
    if page.method == "GET":
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/sign-in?next={path}")
        # Of a program that asks for a page, nobody knows what it would do with another one.
        assert (await stranger.http.client.get(path)).status_code == 401
        answer = await stranger.get(path, HX_Request="true")
    else:
        answer = await stranger.sent(path)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/sign-in?next=/")


@pytest.mark.parametrize("page", CLOSED, ids=name)
async def test_an_instance_of_another_organization_is_not_there(
    stranger: Visitor, page: Page
) -> None:
    path = await address(page, stranger)
    if path == page.path:
        return
    await stranger.signed_in(await stranger.http.other_key())
    answer = await (stranger.get(path) if page.method == "GET" else stranger.sent(path))
    assert answer.status_code == 404


@pytest.mark.parametrize("headers", OTHERS, ids=str)
@pytest.mark.parametrize("page", ACTIONS, ids=name)
async def test_only_our_own_pages_can_have_something_done(
    visitor: Visitor, page: Page, headers: dict[str, str]
) -> None:
    path = await address(page, visitor)
    form = {"name": "forged", "key": visitor.http.world.key}
    # A form of another page can send everything but a header of its own choice.
    for more in ({}, {"HX-Request": "true"}):
        answer = await visitor.http.client.post(path, data=form, headers=headers | more)
        assert answer.status_code == 403, headers
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("page", [each for each in ACTIONS if not each.is_open], ids=name)
async def test_a_form_without_htmx_does_nothing(visitor: Visitor, page: Page) -> None:
    path = await address(page, visitor)
    answer = await visitor.http.client.post(path, headers={"Origin": ORIGIN})
    assert answer.status_code == 403


async def test_pages_of_other_origins_read_nothing_with_our_cookie(visitor: Visitor) -> None:
    for origin in ("http://localhost:3000", ALLOWED_ORIGIN):
        answer = await visitor.get("/", Origin=origin)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        asked = await visitor.http.client.options(
            "/instances",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "hx-request",
            },
        )
        assert "Access-Control-Allow-Credentials" not in asked.headers


@pytest.mark.parametrize("path", ["/", "/health", "/sign-in", "/nowhere"])
async def test_a_page_may_load_and_run_nothing_but_our_own_files(
    visitor: Visitor, path: str
) -> None:
    answer = await visitor.get(path)
    policy = dict(
        each.strip().split(" ", 1) for each in answer.headers.get(
            "Content-Security-Policy", "default-src 'none'"
        ).split(";")
    )  # fmt: skip
    if answer.status_code == 303:
        return
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_nothing_in_a_page_is_code_or_style_of_its_own(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    paths = ["/", *(f"/instances/{agent.id}{part}" for part, _ in TABS)]
    pages = [(await visitor.get(path)).text for path in paths]
    visitor.http.client.cookies.clear()
    for html in (*pages, (await visitor.get("/sign-in")).text):
        elements = Elements(html)
        assert not elements.all("style")
        for _, attributes in elements.found:
            assert "style" not in attributes
            assert not [each for each in attributes if re.match(r"on|hx-on|hx-vals", each)]
        for script in elements.all("script"):
            assert (script["src"] or "").startswith("/assets/")


async def test_the_dashboard_is_no_part_of_the_api(visitor: Visitor) -> None:
    described = (await visitor.http.client.get("/openapi.json")).json()["paths"]
    assert not set(described) & {each.path for each in PAGES}


async def test_head_is_answered_as_get_is(visitor: Visitor) -> None:
    answer = await visitor.http.client.head("/", headers=NAVIGATING)
    assert (answer.status_code, answer.content) == (200, b"")
