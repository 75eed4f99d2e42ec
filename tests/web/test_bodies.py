"""What is wrong with a request is said field by field, and nothing gets through unbounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.web.routes import OPERATIONS, Operation
from tests.scripted.world import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.web.conftest import Api

WITH_BODY = [each for each in OPERATIONS if each.body is not None]

Call = tuple[str, str, dict[str, Any]]

SIGNUP: Call = ("POST", "/v1/organization/signup", {"name": "Kitchen"})
ORGANIZATION: Call = ("PATCH", "/v1/organization", {})
CREATION: Call = ("POST", "/v1/instances", {"name": "Ada"})
CHANGE: Call = ("PATCH", "/v1/instances/{id}", {})
MESSAGE: Call = ("POST", "/v1/instances/{id}/responses", {"model": "gpt-4o", "input": "Hi"})

LONG = "x" * 129
BREAKING: list[tuple[Call, dict[str, Any], list[Any], str]] = [
    (SIGNUP, {"name": ""}, ["name"], "string_too_short"),
    (SIGNUP, {"name": LONG}, ["name"], "string_too_long"),
    (SIGNUP, {"name": 5}, ["name"], "string_type"),
    (SIGNUP, {"name": None}, ["name"], "string_type"),
    (ORGANIZATION, {"name": ""}, ["name"], "string_too_short"),
    (ORGANIZATION, {"name": LONG}, ["name"], "string_too_long"),
    (ORGANIZATION, {"model_api_keys": {"mistral": "x"}}, ["model_api_keys"], "enum"),
    (ORGANIZATION, {"model_api_keys": {"openai": 5}}, ["model_api_keys"], "string_type"),
    (ORGANIZATION, {"model_api_keys": ["x"]}, ["model_api_keys"], "dict_type"),
    (CREATION, {"name": ""}, ["name"], "string_too_short"),
    (CREATION, {"name": LONG}, ["name"], "string_too_long"),
    (CREATION, {"name": ["Ada"]}, ["name"], "string_type"),
    (CREATION, {"model_provider": "mistral"}, ["model_provider"], "enum"),
    (CREATION, {"sandbox_provider": 1}, ["sandbox_provider"], "string_type"),
    (CREATION, {"openclaw_version": None}, ["openclaw_version"], "string_type"),
    (CREATION, {"openclaw_config": "x"}, ["openclaw_config"], "dict_type"),
    (CREATION, {"openclaw_config": [1]}, ["openclaw_config"], "dict_type"),
    (CREATION, {"region": 1}, ["region"], "string_type"),
    (CHANGE, {"name": ""}, ["name"], "string_too_short"),
    (CHANGE, {"name": LONG}, ["name"], "string_too_long"),
    (CHANGE, {"openclaw_config": 1}, ["openclaw_config"], "dict_type"),
    (MESSAGE, {"model": ""}, ["model"], "string_too_short"),
    (MESSAGE, {"model": "x" * 257}, ["model"], "string_too_long"),
    (MESSAGE, {"model": "gpt 4"}, ["model"], "string_pattern_mismatch"),
    (MESSAGE, {"model": "gpt\r\nx: y"}, ["model"], "string_pattern_mismatch"),
    (MESSAGE, {"model": None}, ["model"], "string_type"),
    (MESSAGE, {"input": 5}, ["input"], "string_type"),
    (MESSAGE, {"input": None}, ["input"], "string_type"),
    (MESSAGE, {"input": ["Hi"]}, ["input"], "dict_type"),
    (MESSAGE, {"stream": "maybe"}, ["stream"], "bool_parsing"),
]
MISSING = [
    (SIGNUP, "name"),
    (CREATION, "name"),
    (MESSAGE, "model"),
    (MESSAGE, "input"),
]


async def address(http: Api, path: str) -> str:
    return path.replace("{id}", (await http.world.created()).id) if "{id}" in path else path


def problems(answer: httpx.Response) -> list[dict[str, Any]]:
    """The problems of a 422, whose shape is judged on the way."""
    assert answer.status_code == 422
    found: list[dict[str, Any]] = answer.json()["detail"]
    for problem in found:
        assert set(problem) == {"loc", "msg", "type"}
        assert problem["msg"]
    return found


@pytest.mark.parametrize(("call", "broken", "loc", "kind"), BREAKING)
async def test_a_field_that_breaks_a_bound_is_named(
    http: Api,
    call: Call,
    broken: dict[str, Any],
    loc: list[Any],
    kind: str,
) -> None:
    method, path, good = call
    answer = await http.call(method, await address(http, path), json=good | broken)
    found = problems(answer)
    assert kind in {problem["type"] for problem in found}
    assert {tuple(problem["loc"][: 1 + len(loc)]) for problem in found} == {("body", *loc)}


@pytest.mark.parametrize(("call", "field"), MISSING)
async def test_a_field_that_is_missing_is_named_as_fastapi_would(
    http: Api, call: Call, field: str
) -> None:
    method, path, good = call
    body = {key: value for key, value in good.items() if key != field}
    answer = await http.call(method, await address(http, path), json=body)
    assert problems(answer) == [
        {"loc": ["body", field], "msg": "Field required", "type": "missing"}
    ]


@pytest.mark.parametrize("length", [1, 128])
async def test_a_name_may_be_as_long_as_the_contract_says(http: Api, length: int) -> None:
    answer = await http.post("/v1/organization/signup", json={"name": "ä" * length}, key=None)
    assert answer.status_code == 201


async def test_what_a_request_does_not_echo_is_not_told_to_strangers(http: Api) -> None:
    secret = {"model_api_keys": {"openai": ["sk-secret"]}}
    answer = await http.patch("/v1/organization", json=secret)
    assert "sk-secret" not in answer.text


def described(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.mark.parametrize("operation", WITH_BODY, ids=described)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "missing"),
        (b"{", "json_invalid"),
        (b"nonsense", "json_invalid"),
        (b"\xff\xfe\xff", "json_invalid"),
        (b'{"name": NaN}', "json_invalid"),
        (b'{"name": 1e999}', "json_invalid"),
        (b'{"name": "\\ud800"}', "json_invalid"),
        (b"[" * 100_00, "json_invalid"),
        (b"[]", "model_type"),
        (b"null", "model_type"),
        (b'"Ada"', "model_type"),
        (b"5", "model_type"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused_everywhere(
    http: Api, operation: Operation, body: bytes, kind: str
) -> None:
    path = operation.path.replace("{session_id:path}", "s")
    answer = await http.call(
        operation.method, await address(http, path.replace("{instance_id}", "{id}")), content=body
    )
    (problem,) = problems(answer)
    assert problem["type"] == kind
    assert problem["loc"][0] == "body"


async def test_a_whole_pair_of_surrogates_is_the_text_it_stands_for(http: Api) -> None:
    body = b'{"name": "\\ud83e\\udd9e"}'
    answer = await http.post("/v1/organization/signup", content=body, key=None)
    assert answer.json()["organization"]["name"] == "🦞"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_is_not_insisted_on(http: Api, content_type: str) -> None:
    answer = await http.post(
        "/v1/organization/signup",
        content=b'{"name": "Kitchen"}',
        headers={"Content-Type": content_type},
        key=None,
    )
    assert answer.status_code == 201


async def test_members_that_nobody_knows_are_ignored(http: Api) -> None:
    answer = await http.post("/v1/organization/signup", json={"name": "x", "more": 1}, key=None)
    assert answer.status_code == 201


def sized(size: int) -> bytes:
    """A valid signup of exactly that many bytes."""
    head, tail = b'{"name": "x", "padding": "', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


async def test_a_body_up_to_the_limit_is_taken(http: Api) -> None:
    body = sized(MAX_BODY_BYTES)
    assert (await http.post("/v1/organization/signup", content=body)).status_code == 201


@pytest.mark.parametrize("operation", WITH_BODY, ids=described)
async def test_a_body_over_the_limit_is_refused(http: Api, operation: Operation) -> None:
    path = operation.path.replace("{session_id:path}", "s").replace("{instance_id}", "{id}")
    body = sized(MAX_BODY_BYTES + 1)
    answer = await http.call(operation.method, await address(http, path), content=body)
    assert answer.status_code == 413
    assert answer.json() == {"detail": f"The request body is larger than {MAX_BODY_BYTES} bytes."}


async def test_a_body_without_a_length_is_not_read_beyond_the_limit(http: Api) -> None:
    sent = 0

    async def forever() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += MAX_BODY_BYTES // 4
            yield b"x" * (MAX_BODY_BYTES // 4)

    answer = await http.post("/v1/organization/signup", content=forever())
    assert answer.status_code == 413
    assert sent <= MAX_BODY_BYTES * 2


def test_every_call_with_a_body_is_tried_here() -> None:
    tried = {json.dumps([method, path]) for method, path, _ in
             (SIGNUP, ORGANIZATION, CREATION, CHANGE, MESSAGE)}  # fmt: skip
    known = {json.dumps([each.method, each.path.replace("{instance_id}", "{id}")])
             for each in WITH_BODY if "session" not in each.path}  # fmt: skip
    assert tried == known
