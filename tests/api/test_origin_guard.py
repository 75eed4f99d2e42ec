"""The origin guard: unknown hosts and other sites' changes are refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import RELAY_HOSTNAME
from chowder_local.core.metrics import Metrics
from chowder_local.dashboard.routes import LINKED_PAGES
from chowder_local.features.front import all_operations, all_pages
from chowder_local.http.middleware import OriginGuard, PagesCORS, RequestLog, host_name, stack
from tests.api.conftest import ALLOWED_HOSTS, ALLOWED_ORIGIN
from tests.api.test_middleware import FOREIGN, LOOPBACK

if TYPE_CHECKING:
    import httpx
    from starlette.types import Message, Receive, Scope, Send

    from tests.api.conftest import Api

OURS = [
    "localhost",
    "localhost:2469",
    "LocalHost:1",
    "localhost.",
    "my-app.localhost:2469",
    "127.0.0.1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:2469",
    "chowder.internal",
    "Chowder.Internal:8080",
]
NOT_OURS = [
    "evil.example",
    "evil.example:2469",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "notlocalhost",
    "192.168.1.5:2469",
    "169.254.169.254",
    "0.0.0.0:2469",
    "[::2]:2469",
    "::1",
    "localhost:2469@evil.example",
    "evil.example/localhost",
    "localhost evil.example",
    "localhost, localhost",
    "",
]
SIGNUP = "/v1/organization/signup"
SIMPLE_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
WRITING = ["POST", "PUT", "PATCH", "DELETE"]


async def signup(http: Api, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"name": "Kitchen"}
    return await http.post(SIGNUP, json=body, key=None, headers=named, is_documented=False)


@pytest.mark.parametrize("host", OURS)
async def test_a_request_for_a_known_host_is_accepted(host: str) -> None:
    assert await _status_for(ALLOWED_HOSTS, host, "127.0.0.1") == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", *WRITING])
@pytest.mark.parametrize("host", NOT_OURS)
async def test_a_request_for_an_unknown_host_is_refused(host: str, method: str) -> None:
    assert await _status_for(ALLOWED_HOSTS, host, "127.0.0.1", method=method) == 403


async def test_every_path_is_behind_the_guard(shared: Api) -> None:
    """Unknown paths, too."""
    paths = {each.path for each in all_operations()} | {
        each.path for each in all_pages() + LINKED_PAGES
    }
    paths |= {"/docs", "/openapi.json", "/x"}
    paths |= {"/local/ready", "/local/health", "/v1/organization", "/dashboard"}
    wrong = {}
    for path in sorted(paths):
        address = re.sub(r"\{\w+(:path)?\}", "x", path)
        for method in ("GET", "POST"):
            answer = await shared.call(
                method, address, headers={"Host": "evil.example"}, is_documented=False
            )
            words = answer.json().get("detail", "")
            if answer.status_code != 403 or "CHOWDER_ALLOWED_HOSTS" not in words:
                wrong[method, path] = answer.text
    assert wrong == {}


def test_only_the_log_and_cors_are_outside_of_the_guard() -> None:
    kinds: list[object] = [each.cls for each in stack([], Metrics(), [])]
    assert kinds[:3] == [RequestLog, PagesCORS, OriginGuard]


async def test_a_page_with_a_rebound_name_creates_no_organization(shared: Api) -> None:
    """To its browser, such a page has this server's origin, and may send any content type."""
    headers = {"Host": "evil.example:2469", "Origin": "http://evil.example:2469"}
    answer = await signup(shared, Sec_Fetch_Site="same-origin", **headers)
    assert answer.status_code == 403
    assert "evil.example:2469" in answer.json()["detail"]


async def test_an_allowed_page_can_read_the_refusal_of_an_unknown_host(shared: Api) -> None:
    headers = {"Host": "box.lan", "Origin": LOOPBACK[0]}
    answer = await shared.get("/local/ready", headers=headers, is_documented=False)
    assert answer.status_code == 403
    assert answer.json().keys() == {"detail"}
    assert answer.headers["Access-Control-Allow-Origin"] == LOOPBACK[0]
    assert answer.headers["X-Request-Id"]


async def test_a_foreign_page_creates_no_organization_with_a_simple_request(
    shared: Api,
) -> None:
    wrong = {}
    for origin in FOREIGN:
        for content_type in SIMPLE_TYPES:
            headers = {"Origin": origin} | ({"Content-Type": content_type} if content_type else {})
            body = b'{"name": "x"}'
            answer = await shared.post(
                SIGNUP, content=body, key=None, headers=headers, is_documented=False
            )
            words = answer.json().get("detail", "")
            if answer.status_code != 403 or "CHOWDER_CORS_ORIGINS" not in words:
                wrong[origin, content_type] = answer.text
    assert wrong == {}


@pytest.mark.parametrize("method", WRITING)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin, cross-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": f"{ALLOWED_ORIGIN}, https://evil.example"},
        {"origin": ""},
    ],
)
async def test_a_change_from_another_site_is_refused(method: str, headers: dict[str, str]) -> None:
    assert await _status_at_known_host(method, headers) == 403


async def test_a_request_of_another_site_changes_nothing_even_with_a_key(http: Api) -> None:
    for method in WRITING:
        headers = {"Origin": "https://evil.example"}
        answer = await http.call(method, "/v1/organization", headers=headers, json={"name": "Mine"})
        assert answer.status_code == 403, method
    assert (await http.get("/v1/organization")).json()["name"] == "Kitchen"


@pytest.mark.parametrize("method", WRITING)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"origin": "http://server.test"},
        {"origin": ALLOWED_ORIGIN, "sec-fetch-site": "cross-site"},
        *({"origin": origin, "sec-fetch-site": "same-site"} for origin in LOOPBACK),
    ],
)
async def test_programs_own_pages_and_allowed_pages_may_make_changes(
    method: str, headers: dict[str, str]
) -> None:
    assert await _status_at_known_host(method, headers) == 200


async def test_an_allowed_page_with_a_key_may_make_changes(http: Api) -> None:
    headers = {"Origin": ALLOWED_ORIGIN, "Sec-Fetch-Site": "cross-site"}
    answer = await http.patch("/v1/organization", headers=headers, json={"name": "Mine"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Mine")


@pytest.mark.parametrize(("page", "body"), [("checkout", {"tier": "lobster"}), ("portal", {})])
async def test_a_foreign_page_cannot_submit_the_forms_of_own_pages(
    http: Api, page: str, body: dict[str, str]
) -> None:
    link = (await http.post(f"/v1/subscription/{page}", json=body)).json()["url"]
    for origin in FOREIGN:
        answer = await http.post(f"{link}&tier=lobster", key=None, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert (await http.get("/v1/subscription")).json()["tier"] == "crab"


async def test_reading_is_left_to_cors(shared: Api) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = await shared.get("/local/ready", key=None, headers=headers)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("authority", "name"),
    [("A.example:1", "a.example"), ("[FE80::1]:2", "fe80::1"), ("a:b", ""), ("a:1:2", ""),
     ("[::1", ""), ("user@a", ""), ("a b", ""), ("a:", "a")],
)  # fmt: skip
def test_the_host_name_is_separated_from_its_port(authority: str, name: str) -> None:
    assert host_name(authority) == name


async def _status_for(hosts_allowed: list[str], host: str, server: str, **more: Any) -> int:
    sent: list[Message] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())]
    headers += [(name.encode(), value.encode()) for name, value in more.pop("headers", {}).items()]
    request = {"type": "http", "method": more.pop("method", "POST"), "path": "/"}
    scope = request | {"headers": headers, "server": (server, 2469)}
    gate = OriginGuard(app, hosts=hosts_allowed, origins=more.pop("origins", ()))
    await gate(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def _status_at_known_host(method: str, headers: dict[str, str]) -> int:
    """The status of a request for a known host."""
    hosts, origins = ALLOWED_HOSTS, [ALLOWED_ORIGIN]
    return await _status_for(
        hosts, "server.test", "127.0.0.1", method=method, headers=headers, origins=origins
    )


@pytest.mark.parametrize(
    ("allowed", "host", "arrived_at", "status"),
    [
        (["0.0.0.0"], "192.168.1.5:2469", "192.168.1.5", 200),
        (["0.0.0.0"], "192.168.1.6:2469", "192.168.1.5", 403),
        (["0.0.0.0"], "evil.example:2469", "192.168.1.5", 403),
        (["::"], "[fd00::5]:2469", "fd00::5", 200),
        (["::"], "192.168.1.5:2469", "::ffff:192.168.1.5", 200),
        (["fd00::5"], "[fd00::5]", "fd00::5", 200),
        (["box.example"], "box.example:2469", "192.168.1.5", 200),
        (["127.0.0.1"], "192.168.1.5", "127.0.0.1", 403),
        ([RELAY_HOSTNAME], f"{RELAY_HOSTNAME}:2470", "172.18.0.1", 200),
    ],
)
async def test_a_server_is_known_by_the_address_that_it_listens_on(
    allowed: list[str], host: str, arrived_at: str, status: int
) -> None:
    assert await _status_for(allowed, host, arrived_at) == status


async def test_a_page_of_a_server_on_another_address_may_submit_its_forms() -> None:
    headers = {"origin": "http://192.168.1.5:2469"}
    assert await _status_for(["0.0.0.0"], "192.168.1.5:2469", "192.168.1.5", headers=headers) == 200
    headers = {"origin": "http://192.168.1.5:80"}
    assert await _status_for(["0.0.0.0"], "192.168.1.5:2469", "192.168.1.5", headers=headers) == 403


async def test_a_star_allows_any_page_like_the_hosted_service() -> None:
    headers = {"origin": "https://any.example"}
    assert await _status_for([], "localhost", "127.0.0.1", headers=headers, origins=["*"]) == 200


async def test_a_repeated_host_header_is_refused() -> None:
    assert await _status_for([], "localhost", "127.0.0.1", headers={"host": "localhost"}) == 403


async def test_other_scopes_than_requests_pass_the_guard() -> None:
    recorded: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        recorded.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    await OriginGuard(app, hosts=(), origins=())({"type": "lifespan"}, nothing, nothing)
    assert recorded == ["lifespan"]
