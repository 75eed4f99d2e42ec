"""The route table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from starlette.routing import compile_path

from chowder_local.core.domain import Permission
from chowder_local.features.front import all_operations

if TYPE_CHECKING:
    from tests.api.conftest import Api

METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE"}
PATHS = sorted({each.path for each in all_operations()})


def test_no_two_rows_have_the_same_method_and_path() -> None:
    keys = [(each.method, each.path) for each in all_operations()]
    assert len(set(keys)) == len(keys)


def test_every_row_has_a_short_summary() -> None:
    summaries = [each.summary for each in all_operations()]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1", "/v2/instances", "/local", "/nowhere"])
@pytest.mark.parametrize("method", sorted(METHODS))
async def test_an_unknown_path_is_a_404(shared: Api, method: str, path: str) -> None:
    answer = await shared.call(method, path)
    words = "/docs shows all calls" if path.startswith(("/v1", "/local")) else "Not Found"
    assert answer.status_code == 404
    assert words in answer.json()["detail"]
    assert answer.json().keys() == {"detail"}


AGENT = "/v1/instances/0a-1b"


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        ("POST /v1/chat/completions", "POST to /v1/instances/{id}/responses "),
        (f"POST {AGENT}/chat/completions", f"POST to {AGENT}/responses "),
        (f"POST {AGENT}/session/a b/chat/completions", f"POST to {AGENT}/responses "),
        (f"POST {AGENT}/completions", f"POST to {AGENT}/responses "),
        ("POST /v1/responses", "base URL end with /v1/instances/{id}. GET /v1/instances "),
        ("GET /v1/responses/resp_1", "POST to /v1/instances/{id}/responses"),
        ("POST /responses", "POST to /v1/instances/{id}/responses"),
        (f"POST {AGENT}/v1/responses", f"Call POST {AGENT}/responses instead"),
        (f"POST {AGENT}/responses/responses", f"Call POST {AGENT}/responses instead"),
        (f"POST /v1{AGENT}/responses", f"Call POST {AGENT}/responses instead"),
        (f"POST {AGENT.removeprefix('/v1')}/responses", f"Call POST {AGENT}/responses instead"),
        (f"POST /{AGENT}/responses", f"Call POST {AGENT}/responses instead"),
        (f"POST {AGENT}//responses", f"Call POST {AGENT}/responses instead"),
        ("GET /v1//instances", "Call GET /v1/instances instead"),
        ("GET /v1/local/health", "Call GET /local/health instead"),
        (f"GET {AGENT}/responses/resp_1", "GET /local/instances/0a-1b/traces/{response_id} "),
        (f"GET {AGENT}/responses/resp_1/input_items", "/local/instances/0a-1b/transcript "),
        (f"POST {AGENT}/responses/resp_1/cancel", f"its POST {AGENT}/responses"),
        (f"POST {AGENT}/responses/input_tokens", "in `usage`"),
        (f"POST {AGENT}/responses/compact", "next message"),
        (f"POST {AGENT}/conversations", f"{AGENT}/session/{{name}}/responses"),
        (f"POST {AGENT}/session/responses", f"{AGENT}/session/{{name}}/responses"),
        (f"GET {AGENT}/models/gpt-4o", f"GET {AGENT}/models lists"),
        (f"GET {AGENT}/session/a/b/models", f"GET {AGENT}/models lists"),
        ("GET /v1/models", "GET /v1/instances/{id}/models lists"),
        (f"POST {AGENT}/embeddings", "call the model provider itself"),
        (f"POST {AGENT}/vector_stores", "call the model provider itself"),
    ],
)
async def test_a_call_of_openais_api_that_is_missing_gets_what_to_call_instead(
    shared: Api, call: str, instead: str
) -> None:
    method, _, path = call.partition(" ")
    answer = await shared.client.request(method, f"http://server.test{path}")
    assert answer.status_code == 404
    assert instead in answer.json()["detail"]
    # The member that OpenAI's SDKs show.
    assert answer.json()["error"]["message"] == answer.json()["detail"]
    assert answer.json()["error"]["code"] == "route_missing"


async def test_an_instances_name_in_the_path_gets_its_id(shared: Api) -> None:
    ours = [await shared.world.created(name="my agent") for _ in range(2)]
    scoped = "chd_sk_of_one_of_them"
    grants = {ours[0].id: frozenset({Permission.INTERACT})}
    await shared.add_key(scoped, is_organization_key=False, grants=grants)
    for method, path in (("GET", "/v1/instances/my agent"), ("POST", "/v1/instances/my agent/stop"),
                         ("GET", "/local/instances/my agent")):  # fmt: skip
        answer = await shared.call(method, path)
        assert answer.status_code == 404
        assert all(each.id in answer.json()["detail"] for each in ours), path
    path = "/v1/instances/my agent/responses"
    message = {"model": "gpt-4o", "input": "Hi"}
    one = await shared.post(path, json=message, key=scoped)
    words = f"The path takes an id, and 'my agent' is the name of {ours[0].id}."
    assert one.json()["error"]["message"] == f"Instance not found. {words}"
    foreign = await shared.post(path, json=message, key=await shared.other_key())
    assert foreign.json()["detail"] == "Instance not found."


async def test_an_unknown_parameter_of_a_local_call_is_refused(shared: Api) -> None:
    for path in ("/local/faults", "/local/held-calls"):
        refused = await shared.get(f"{path}?limt=3")
        (problem,) = refused.json()["detail"]
        assert (problem["loc"], problem["type"]) == (["query", "limt"], "extra_forbidden")


async def test_a_method_that_a_path_lacks_is_a_405(shared: Api) -> None:
    wrong = {}
    for path in PATHS:
        address = re.sub(r"\{\w+(:path)?\}", "x", path)
        own = {each.method for each in all_operations() if each.path == path}
        # One path may be an example of another: a skill can be called "install".
        known = {
            each.method
            for each in all_operations()
            if compile_path(each.path)[0].match(address) is not None
        }
        for method in sorted(METHODS - known):
            answer = await shared.call(method, address)
            allowed = set(answer.headers.get("Allow", "").split(", ")) - {"HEAD"}
            result = (answer.status_code, answer.json()["detail"], allowed)
            if result != (405, "Method Not Allowed", own):
                wrong[method, path] = result
    assert wrong == {}


async def test_head_is_answered_like_get_without_a_body(shared: Api) -> None:
    get, head = await shared.get("/v1/organization"), await shared.call("HEAD", "/v1/organization")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("end", ["%0A", "%0D%0A", "%20", "%00", "/"])
async def test_a_path_must_match_to_its_last_character(shared: Api, end: str) -> None:
    for path in ("/v1/instances", "/v1/instances/none/responses", "/local/health"):
        answer = await shared.call("GET", f"{path}{end}", follow_redirects=False)
        assert answer.status_code in {307, 404}, path
        assert (answer.status_code == 307) <= (end == "/")
