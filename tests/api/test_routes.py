"""The route table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from starlette.routing import compile_path

from chowder_local.api.routes import OPERATIONS

if TYPE_CHECKING:
    from tests.api.conftest import Api

METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE"}
PATHS = sorted({each.path for each in OPERATIONS})


def test_no_two_rows_have_the_same_method_and_path() -> None:
    keys = [(each.method, each.path) for each in OPERATIONS]
    assert len(set(keys)) == len(keys)


def test_every_row_has_a_short_summary() -> None:
    summaries = [each.summary for each in OPERATIONS]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1", "/v2/instances", "/local", "/nowhere"])
@pytest.mark.parametrize("method", sorted(METHODS))
async def test_an_unknown_path_is_a_404(shared: Api, method: str, path: str) -> None:
    answer = await shared.call(method, path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/v1/chat/completions", "/v1/instances/{id}/responses "),
        ("/v1/instances/0a-1b/chat/completions", "/v1/instances/0a-1b/responses "),
        ("/v1/instances/x/session/a b/chat/completions", "/v1/instances/{id}/responses "),
    ],
)
async def test_a_call_of_chat_completions_is_refused_with_the_responses_path(
    shared: Api, path: str, instead: str
) -> None:
    answer = await shared.post(path, json={"model": "gpt-4o", "messages": []}, key=None)
    assert answer.status_code == 404
    assert f"POST to {instead}" in answer.json()["detail"]
    # The member that OpenAI's SDKs show.
    assert answer.json()["error"]["message"] == answer.json()["detail"]


async def test_a_method_that_a_path_lacks_is_a_405(shared: Api) -> None:
    wrong = {}
    for path in PATHS:
        address = re.sub(r"\{\w+(:path)?\}", "x", path)
        own = {each.method for each in OPERATIONS if each.path == path}
        # One path may be an example of another: a skill can be called "install".
        known = {
            each.method
            for each in OPERATIONS
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
