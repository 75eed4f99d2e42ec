"""Unknown paths and methods, and CORS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.rows import every_row
from tests.conformance.shapes import answered, refused

if TYPE_CHECKING:
    from tests.conformance.client import Client

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
ORIGIN = "http://localhost:5173"


def test_an_unknown_path_is_not_found(api: Client) -> None:
    with every_row() as row:
        for path in ("nowhere", "instances/x/nowhere", "organization/nowhere"):
            for method in METHODS:
                with row(f"{method} {path}"):
                    refused(api.request(method, path), 404)


def test_an_unknown_method_is_not_allowed(api: Client) -> None:
    unknown = [
        ("PUT", "organization"),
        ("GET", "organization/signup"),
        ("PUT", "instances"),
        ("PATCH", "instances/x/status"),
        ("GET", "instances/x/responses"),
    ]
    with every_row() as row:
        for method, path in unknown:
            with row(f"{method} {path}"):
                refused(api.request(method, path), 405)


def test_a_page_of_a_loopback_origin_may_send_requests(anyone: Client) -> None:
    with every_row() as row:
        for method in METHODS:
            with row(method):
                check_preflight(anyone, method)


def check_preflight(anyone: Client, method: str) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = anyone.request("OPTIONS", "instances", headers=headers)
    assert answer.status_code in {200, 204}
    assert answer.headers["Access-Control-Allow-Origin"] in {ORIGIN, "*"}
    assert method in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert "*" in allowed or {"authorization", "content-type"} <= set(
        allowed.replace(" ", "").split(",")
    )


def test_a_page_can_read_answers_and_errors(api: Client, anyone: Client) -> None:
    headers = {"Origin": ORIGIN}
    good = api.get("organization", headers=headers)
    answered(good, 200)
    bad = anyone.get("organization", headers=headers)
    refused(bad, 401)
    for answer in (good, bad):
        assert answer.headers["Access-Control-Allow-Origin"] in {ORIGIN, "*"}
