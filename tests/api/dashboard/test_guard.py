"""Every page of the dashboard: its session, the origin of its actions, and its headers."""

from __future__ import annotations

import re

import pytest
from starlette.requests import Request
from starlette.responses import Response

from chowder_local.core.domain import Permission
from chowder_local.core.errors.requests import ActionRefused
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.dashboard.pages import all_tabs
from chowder_local.dashboard.rendering import RELOADING_HASH
from chowder_local.dashboard.routes import LINKED_PAGES, Page
from chowder_local.dashboard.sign_in import guarded
from chowder_local.features.feature import own_features
from chowder_local.features.front import all_pages, whole_of
from tests.api.conftest import ALLOWED_ORIGIN
from tests.api.dashboard.conftest import NAVIGATING, ORIGIN, Elements, Visitor

CLOSED = [each for each in all_pages() if not each.is_open]
ACTIONS = [each for each in all_pages() if each.method != "GET"]
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
"""Headers of requests from other origins; a browser sends at least one of them."""


OURS = [
    {"Origin": ORIGIN},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"},
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin"},
]

ISOLATING = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def name(page: Page) -> str:
    return f"{page.method} {page.path}"


async def addresses(visitor: Visitor) -> dict[str, str]:
    """The address of each page of the visitor's organization, by name; everything in it exists."""
    agent, services = await visitor.http.world.created(), visitor.http.world
    call = services.call_log.begin(
        agent.organization_id, agent.id, "openai", "v1/chat/completions", b"{}"
    )
    key, _ = await services.keys.create(
        agent.organization_id, "ours", [agent.id], [Permission.READ]
    )
    fault = services.faults.add(agent.organization_id, FaultDraft(FaultKind.MESSAGE))
    places = {
        "instance_id": agent.id, "model_call_id": call.id, "token": "none", "key_id": key.id,
        "job_id": "j-1", "fault_id": fault.id, "position": "1", "channel": "telegram",
        "path": "tutorial.md", "snapshot_id": (await services.snapshots.take(agent)).id,
        "number": "1", "code": "ABCD", "item_id": "t-1", "approval_id": "a-1",
    }  # fmt: skip
    return {name(page): page.path.replace(":path}", "}").format(**places) for page in all_pages()}


async def belongings(visitor: Visitor) -> list[object]:
    """All data of the organization that a page could change."""
    services, mine = visitor.http.world, visitor.http.world.organization_id
    return [
        await services.organizations.details(mine),
        [
            each
            async for page in visitor.http.world.instances.of_organization(mine)
            for each in page
        ],
        [each async for page in services.keys.all(mine) for each in page],
        await services.snapshots.of_organization(mine),
        services.faults.of_organization(mine),
    ]


def test_only_the_sign_in_and_the_guide_need_no_session() -> None:
    opened = {name(page) for page in all_pages() if page.is_open}
    guide = {"GET /guide", "GET /guide/{path:path}"}
    assert opened == {"GET /sign-in", "POST /sign-in", "POST /sign-in/link"} | guide


async def test_every_other_page_and_action_needs_a_session(stranger: Visitor) -> None:
    paths, had = await addresses(stranger), await belongings(stranger)
    wrong = {}
    for page in CLOSED:
        path = paths[name(page)]
        got = {}
        if page.method == "GET":
            answer = await stranger.get(path)
            got["read"] = (answer.status_code, answer.headers.get("Location"))
            # A program that requests a page is not redirected to another one.
            got["program"] = ((await stranger.http.client.get(path)).status_code, None)
            answer = await stranger.get(path, HX_Request="true")
        else:
            answer = await stranger.post(path)
        got["htmx"] = (answer.status_code, answer.headers.get("HX-Redirect"))
        expected = {"read": (303, f"/sign-in?next={path}"), "program": (401, None)}
        expected = expected if page.method == "GET" else {}
        if got != expected | {"htmx": (200, "/sign-in?next=/")}:
            wrong[name(page)] = got
    assert not wrong
    assert await belongings(stranger) == had


async def test_pages_of_another_organization_are_not_found(stranger: Visitor) -> None:
    paths, had = await addresses(stranger), await belongings(stranger)
    await stranger.sign_in(await stranger.http.other_key())
    found = {}
    for page in CLOSED:
        if "{" in page.path:
            ask = stranger.get if page.method == "GET" else stranger.post
            answer = await ask(paths[name(page)])
            if answer.status_code != 404:
                found[name(page)] = answer.status_code
    assert not found
    assert await belongings(stranger) == had


async def test_only_pages_of_this_origin_can_act(visitor: Visitor) -> None:
    paths, had = await addresses(visitor), await belongings(visitor)
    form = {"name": "forged", "key": visitor.http.world.key}
    accepted = {}
    for page in ACTIONS:
        # A form of another page can send anything except a header of its choice.
        foreign = [{"Origin": "http://localhost:3000"}, {}]
        attempts = [headers | more for headers in foreign for more in ({}, {"HX-Request": "true"})]
        # A request without htmx's header may come from another page, whatever its other headers.
        attempts += [] if page.is_open else [{"Origin": ORIGIN}]
        for headers in attempts:
            answer = await visitor.http.client.post(paths[name(page)], data=form, headers=headers)
            if answer.status_code != 403 or "Set-Cookie" in answer.headers:
                accepted[name(page), str(headers)] = answer.status_code
    assert not accepted
    assert await belongings(visitor) == had


@pytest.mark.parametrize("is_open", [True, False])
async def test_an_action_of_another_origin_does_not_reach_its_handler(is_open: bool) -> None:
    async def handler(_: Request) -> Response:
        raise AssertionError("the handler has been called")

    for headers in OTHERS:
        for more in ({}, {"HX-Request": "true"}):
            with pytest.raises(ActionRefused):
                await guarded(handler, is_open=is_open)(action(headers | more))


async def test_an_action_of_this_origin_reaches_its_handler() -> None:
    async def handler(_: Request) -> Response:
        return Response("done")

    for headers in OURS:
        assert (await guarded(handler, is_open=True)(action(headers))).body == b"done"


def action(headers: dict[str, str]) -> Request:
    fields = {"Host": "server.test"} | headers
    raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


async def test_pages_of_other_origins_cannot_read_with_the_cookie(visitor: Visitor) -> None:
    for origin in ("http://localhost:3000", ALLOWED_ORIGIN):
        answer = await visitor.get("/", Origin=origin)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        preflight = await visitor.http.client.options(
            "/instances",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "hx-request",
            },
        )
        assert "Access-Control-Allow-Credentials" not in preflight.headers


async def test_a_page_may_load_only_its_own_files_and_one_inline_script(
    visitor: Visitor,
) -> None:
    pages = [await visitor.get(path) for path in ("/", "/health", "/nowhere")]
    visitor.http.client.cookies.clear()
    for answer in (*pages, await visitor.get("/sign-in")):
        assert answer.headers["Content-Type"].startswith("text/html"), answer.url
        policy = answer.headers["Content-Security-Policy"].split(";")
        assert dict(each.strip().split(" ", 1) for each in policy) == {
            "default-src": "'none'",
            "script-src": f"'self' '{RELOADING_HASH}'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }, answer.url
        assert {name: answer.headers.get(name) for name in ISOLATING} == ISOLATING, answer.url


async def test_a_page_has_no_inline_code_or_style(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    tabs = all_tabs(whole_of(own_features()).parts)
    paths = ["/", *(f"/instances/{agent.id}{part}" for part, _ in tabs)]
    pages = [(await visitor.get(path)).text for path in paths]
    visitor.http.client.cookies.clear()
    for html in (*pages, (await visitor.get("/sign-in")).text):
        elements = Elements(html)
        assert not elements.all("style")
        for _, attributes in elements.tags:
            assert "style" not in attributes
            assert not [each for each in attributes if re.match(r"on|hx-on|hx-vals", each)]
        for script in elements.all("script"):
            assert (script["src"] or "").startswith("/assets/")


async def test_the_dashboard_is_not_part_of_the_api(visitor: Visitor) -> None:
    described = (await visitor.http.client.get("/openapi.json")).json()["paths"]
    assert not set(described) & {each.path for each in all_pages() + LINKED_PAGES}


async def test_head_is_answered_like_get(visitor: Visitor) -> None:
    answer = await visitor.http.client.head("/", headers=NAVIGATING)
    assert (answer.status_code, answer.content) == (200, b"")
