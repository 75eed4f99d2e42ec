"""Who is let in: by the name that a request is for, and by the page that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.domain import RELAY_HOSTNAME
from chowder_local.web.gate import Gate, host_name
from tests.web.conftest import ALLOWED_ORIGIN
from tests.web.test_middleware import FOREIGN, LOOPBACK

if TYPE_CHECKING:
    import httpx
    from starlette.types import Message, Receive, Scope, Send

    from tests.web.conftest import Api

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
    return await http.post(SIGNUP, json={"name": "Kitchen"}, key=None, headers=named)


@pytest.mark.parametrize("host", OURS)
async def test_a_request_for_a_name_of_ours_is_taken(http: Api, host: str) -> None:
    assert (await http.get("/local/ready", key=None, headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("path", ["/local/ready", "/local/health", "/v1/organization", "/docs"])
@pytest.mark.parametrize("host", NOT_OURS)
async def test_a_request_for_another_name_gets_nothing(http: Api, host: str, path: str) -> None:
    answer = await http.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json().keys() == {"detail"}
    assert "CHOWDER_ALLOWED_HOSTS" in answer.json()["detail"]


async def test_a_page_whose_name_was_led_to_us_makes_no_organization(http: Api) -> None:
    """As its browser sees it, such a page is of our origin, and asks with any content type."""
    headers = {"Host": "evil.example:2469", "Origin": "http://evil.example:2469"}
    answer = await signup(http, Sec_Fetch_Site="same-origin", **headers)
    assert answer.status_code == 403
    assert "evil.example:2469" in answer.json()["detail"]


async def test_a_page_that_may_call_can_read_that_it_called_the_wrong_name(http: Api) -> None:
    headers = {"Host": "box.lan", "Origin": LOOPBACK[0]}
    answer = await http.get("/local/ready", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["Access-Control-Allow-Origin"] == LOOPBACK[0]
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("content_type", SIMPLE_TYPES)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_makes_no_organization_though_no_browser_asks_first(
    http: Api, origin: str, content_type: str | None
) -> None:
    headers = {"Origin": origin} | ({"Content-Type": content_type} if content_type else {})
    answer = await http.post(SIGNUP, content=b'{"name": "x"}', key=None, headers=headers)
    assert answer.status_code == 403
    assert "CHOWDER_CORS_ORIGINS" in answer.json()["detail"]


@pytest.mark.parametrize("method", WRITING)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": f"{ALLOWED_ORIGIN}, https://evil.example"},
        {"Origin": ""},
    ],
)
async def test_what_another_site_sends_changes_nothing_even_with_a_key(
    http: Api, method: str, headers: dict[str, str]
) -> None:
    answer = await http.call(method, "/v1/organization", headers=headers, json={"name": "Mine"})
    assert answer.status_code == 403
    assert (await http.get("/v1/organization")).json()["name"] == "Kitchen"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://server.test"},
        {"Origin": ALLOWED_ORIGIN, "Sec-Fetch-Site": "cross-site"},
        *({"Origin": origin, "Sec-Fetch-Site": "same-site"} for origin in LOOPBACK),
    ],
)
async def test_programs_our_own_pages_and_allowed_ones_may_change_things(
    http: Api, headers: dict[str, str]
) -> None:
    answer = await http.patch("/v1/organization", headers=headers, json={"name": "Mine"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Mine")


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("page", ["checkout", "portal"])
async def test_a_foreign_page_cannot_press_the_buttons_of_ours(
    http: Api, origin: str, page: str
) -> None:
    body = {"tier": "lobster"} if page == "checkout" else {}
    link = (await http.post(f"/v1/subscription/{page}", json=body)).json()["url"]
    answer = await http.post(f"{link}&tier=lobster", key=None, headers={"Origin": origin})
    assert answer.status_code == 403
    assert (await http.get("/v1/subscription")).json()["tier"] == "crab"


async def test_reading_is_left_to_cors(http: Api) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = await http.get("/local/ready", key=None, headers=headers)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("authority", "name"),
    [("A.example:1", "a.example"), ("[FE80::1]:2", "fe80::1"), ("a:b", ""), ("a:1:2", ""),
     ("[::1", ""), ("user@a", ""), ("a b", ""), ("a:", "a")],
)  # fmt: skip
def test_a_name_is_told_from_its_port(authority: str, name: str) -> None:
    assert host_name(authority) == name


async def _judged(gate_hosts: list[str], host: str, server: str, **more: Any) -> int:
    sent: list[Message] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())]
    headers += [(name.encode(), value.encode()) for name, value in more.pop("headers", {}).items()]
    request = {"type": "http", "method": "POST", "path": "/"}
    scope = request | {"headers": headers, "server": (server, 2469)}
    gate = Gate(app, hosts=gate_hosts, origins=more.pop("origins", ()))
    await gate(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(
    ("told", "host", "arrived_at", "status"),
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
async def test_a_server_that_is_told_to_listen_elsewhere_is_called_by_that_address(
    told: list[str], host: str, arrived_at: str, status: int
) -> None:
    assert await _judged(told, host, arrived_at) == status


async def test_a_page_of_a_server_elsewhere_may_press_its_own_buttons() -> None:
    headers = {"origin": "http://192.168.1.5:2469"}
    assert await _judged(["0.0.0.0"], "192.168.1.5:2469", "192.168.1.5", headers=headers) == 200
    headers = {"origin": "http://192.168.1.5:80"}
    assert await _judged(["0.0.0.0"], "192.168.1.5:2469", "192.168.1.5", headers=headers) == 403


async def test_a_star_lets_any_page_call_as_the_hosted_service_does() -> None:
    headers = {"origin": "https://any.example"}
    assert await _judged([], "localhost", "127.0.0.1", headers=headers, origins=["*"]) == 200


async def test_two_names_are_none() -> None:
    assert await _judged([], "localhost", "127.0.0.1", headers={"host": "localhost"}) == 403


async def test_what_is_no_request_passes_the_gate() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    await Gate(app, hosts=(), origins=())({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
