"""Unknown paths and methods, missing members, CORS, and what else is the same for all calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.conformance.client import calls, send_harmless
from chowder_local.conformance.drift import answered, invalid, refused
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    import httpx

    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
ORIGIN = "http://localhost:5173"
OTHER_ORIGIN = "https://page.example"

pytestmark = pytest.mark.read_only


def test_an_unknown_path_is_not_found(api: ContractClient) -> None:
    with every_row() as row:
        for path in ("nowhere", "instances/x/nowhere", "organization/nowhere"):
            for method in METHODS:
                with row(f"{method} {path}"):
                    refused(api.request(method, path), 404)


def test_every_missing_member_is_named(api: ContractClient, present: str) -> None:
    with every_row() as row:
        for operation, call in calls():
            required = {("body", each) for each in call.required} | {
                ("query", each) for each in call.query if not each.endswith("?")
            }
            # Uploads send no JSON and have a test of their own.
            if required and operation != "uploadFile":
                with row(operation):
                    problems = invalid(send_harmless(api, operation, present))
                    missing = {tuple(each["loc"]) for each in problems if each["type"] == "missing"}
                    assert missing == required


def test_an_unknown_method_is_not_allowed(api: ContractClient) -> None:
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


def test_chat_completions_are_not_found(api: ContractClient, judge: Judge) -> None:
    judge("chat-completions", api.post("chat/completions", json={}).status_code)


def test_a_page_of_a_loopback_origin_may_send_requests(anyone: ContractClient) -> None:
    with every_row() as row:
        for method in METHODS:
            with row(method):
                answer = preflight(anyone, method, ORIGIN)
                assert answer.is_success
                assert allows(answer, ORIGIN)
                assert method in answer.headers["Access-Control-Allow-Methods"]
                allowed = answer.headers["Access-Control-Allow-Headers"].lower()
                assert "*" in allowed or {"authorization", "content-type"} <= set(
                    allowed.replace(" ", "").split(",")
                )


def preflight(anyone: ContractClient, method: str, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return anyone.request("OPTIONS", "instances", headers=headers)


def allows(answer: httpx.Response, origin: str) -> bool:
    return answer.headers.get("Access-Control-Allow-Origin") in {origin, "*"}


def test_a_page_of_any_origin_may_send_requests(anyone: ContractClient, judge: Judge) -> None:
    judge("cors", allows(preflight(anyone, "POST", OTHER_ORIGIN), OTHER_ORIGIN))


def test_a_page_can_read_answers_and_errors(api: ContractClient, anyone: ContractClient) -> None:
    headers = {"Origin": ORIGIN}
    good = api.get("organization", headers=headers)
    answered(good)
    bad = anyone.get("organization", headers=headers)
    refused(bad, 401)
    for answer in (good, bad):
        assert allows(answer, ORIGIN)


def test_answers_have_the_id_of_their_request_and_the_code_of_an_error(
    api: ContractClient, anyone: ContractClient, judge: Judge
) -> None:
    good, bad = api.get("organization"), anyone.get("organization")
    judge("response-headers", "X-Request-Id" in good.headers and "X-Error-Code" in bad.headers)


def test_a_body_of_another_type_is_refused(api: ContractClient, judge: Judge) -> None:
    headers = {"Content-Type": "text/plain"}
    # Without a name, no instance is made in any case.
    answer = api.post("instances", content="{}", headers=headers)
    judge("request-bodies", answer.status_code)


def test_a_local_server_describes_itself_and_has_more_routes(
    anyone: ContractClient, judge: Judge
) -> None:
    judge("descriptions", anyone.get(f"{anyone.root_url}/openapi.json").status_code)
    judge("more-routes", anyone.get(f"{anyone.root_url}/local/health").status_code)
