"""Validation of bodies and queries: errors name their fields, and everything has bounds."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.api.operations import MESSAGE_BODY_BYTES, PICTURE_BODY_BYTES, SMALL_BODY_BYTES
from chowder_local.core.untrusted_json import DEPTH_MAX
from chowder_local.features.front import all_operations
from chowder_local.http import bodies
from chowder_local.http.bodies import JSON, UNCOUNTED_BYTES, VALUES_MAX, check_values
from tests.api.conftest import Api, app_of, open_client
from tests.scripted.world import MAX_BODY_BYTES, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from chowder_local.api.operations import Operation
    from chowder_local.core.domain import Instance

WITH_BODY = [
    each for each in all_operations() if isinstance(each.body, type) and each.body_type == JSON
]

Call = tuple[str, str, dict[str, Any]]

ORGANIZATION: Call = ("PATCH", "/v1/organization", {})
CREATION: Call = ("POST", "/v1/instances", {"name": "Ada"})
MESSAGE: Call = ("POST", "/v1/instances/{id}/responses", {"model": "gpt-4o", "input": "Hi"})
CHECKOUT: Call = ("POST", "/v1/subscription/checkout", {"tier": "crab"})
FILE: Call = ("PUT", "/v1/instances/{id}/files/content", {"path": "a.md", "content": ""})
INSTALLATION: Call = ("POST", "/v1/instances/{id}/skills/install", {"slug": "weather"})
SKILL: Call = ("PATCH", "/v1/instances/{id}/skills/weather", {"enabled": True})
CONNECTING: Call = (
    "POST", "/v1/instances/{id}/channels/telegram/connect", {"config": {"token": "1:x"}}
)  # fmt: skip
PAIRING: Call = ("POST", "/v1/instances/{id}/channels/telegram/pair", {"code": "ABCD2345"})
REPLIES: Call = ("PUT", "/local/replies", {"replies": []})
RECORDING: Call = ("PUT", "/local/instances/{id}/recording", {"entries": {}})
ANSWERED = {"answered": {"status": 200, "text": ""}}
UPGRADE: Call = ("POST", "/local/instances/{id}/upgrade", {"to": "2026.9.7"})
EGRESS: Call = ("PATCH", "/local/instances/{id}", {"egress": "off"})
FAULT: Call = ("POST", "/local/faults", {"kind": "message"})

LONG = "x" * 129
BREAKING: list[tuple[Call, dict[str, Any], list[Any], str]] = [
    (EGRESS, {"egress": "maybe"}, ["egress"], "enum"),
    (REPLIES, {"replies": "x"}, ["replies"], "list_type"),
    (REPLIES, {"rules": []}, ["rules"], "extra_forbidden"),
    (REPLIES, {"replies": [{"match": {}}]}, ["replies", 0, "reply"], "missing"),
    (RECORDING, {"entries": {"1": ANSWERED}}, ["entries", "1", "asked"], "missing"),
    (FAULT, {"status": 200}, ["status"], "greater_than_equal"),
    (FAULT, {"delay_s": 601}, ["delay_s"], "less_than_equal"),
    (ORGANIZATION, {"model_api_keys": {"mistral": "x"}}, ["model_api_keys"], "enum"),
    (ORGANIZATION, {"model_api_keys": {"openai": 5}}, ["model_api_keys"], "string_type"),
    (CREATION, {"name": ""}, ["name"], "string_too_short"),
    (CREATION, {"name": LONG}, ["name"], "string_too_long"),
    (CREATION, {"name": ["Ada"]}, ["name"], "string_type"),
    (CREATION, {"openclaw_config": [1]}, ["openclaw_config"], "dict_type"),
    (CREATION, {"openclaw_version": "latest"}, ["openclaw_version"], "string_pattern_mismatch"),
    (MESSAGE, {"model": "x" * 257}, ["model"], "string_too_long"),
    (MESSAGE, {"model": "gpt\r\nx: y"}, ["model"], "string_pattern_mismatch"),
    (MESSAGE, {"input": ["Hi"]}, ["input"], "dict_type"),
    (MESSAGE, {"input": " \n"}, ["input"], "blank"),
    (MESSAGE, {"input": []}, ["input"], "blank"),
    (MESSAGE, {"input": [{"role": "user", "content": " "}]}, ["input"], "blank"),
    (CHECKOUT, {"tier": "whale"}, ["tier"], "literal_error"),
    (FILE, {"path": "x" * 4097}, ["path"], "string_too_long"),
    (INSTALLATION, {"slug": "../weather"}, ["slug"], "string_pattern_mismatch"),
    (INSTALLATION, {"env": {"A B": "x"}}, ["env"], "string_pattern_mismatch"),
    (SKILL, {"enabled": "maybe"}, ["enabled"], "bool_type"),
    (SKILL, {"env": {"A": "x\x00"}}, ["env"], "string_pattern_mismatch"),
    (CONNECTING, {"config": {}}, ["config", "token"], "missing"),
    (PAIRING, {"code": "--help"}, ["code"], "string_pattern_mismatch"),
]
MISSING = [(CREATION, "name"), (MESSAGE, "input"), (FILE, "content"), (FAULT, "kind")]


def address_of(operation: Operation) -> str:
    """The path with every parameter but the instance filled in."""
    named = {"session_id": "s", "skill_name": "weather", "channel": "telegram"}
    path = operation.path.replace("{instance_id}", "{id}")
    for name, value in named.items():
        path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
    return path


def problems(answer: httpx.Response) -> list[dict[str, Any]]:
    """The problems of a 422, after a check of its shape."""
    request = answer.request
    assert answer.status_code == 422, (request.method, request.url.path, request.content[:200])
    result: list[dict[str, Any]] = answer.json()["detail"]
    for problem in result:
        assert set(problem) == {"loc", "msg", "type"}
        assert problem["msg"]
    return result


async def test_a_field_that_breaks_a_bound_is_a_422_that_names_it(
    shared: Api, agent: Instance
) -> None:
    wrong = []
    for (method, path, good), broken, loc, kind in BREAKING:
        body = good | broken
        answer = await shared.call(method, path.replace("{id}", agent.id), json=body)
        result = problems(answer)
        kinds = {problem["type"] for problem in result}
        places = {tuple(problem["loc"][: 1 + len(loc)]) for problem in result}
        if kind not in kinds or places != {("body", *loc)}:
            wrong.append((method, path, broken, result))
    assert wrong == []


async def test_a_missing_field_is_named_in_fastapis_format(shared: Api, agent: Instance) -> None:
    result = {}
    for (method, path, good), field in MISSING:
        body = {key: value for key, value in good.items() if key != field}
        answer = await shared.call(method, path.replace("{id}", agent.id), json=body)
        result[method, path, field] = problems(answer)
    assert result == {
        (method, path, field): [
            {"loc": ["body", field], "msg": "Field required", "type": "missing"}
        ]
        for (method, path, _), field in MISSING
    }


async def test_a_number_or_text_is_no_boolean(shared: Api, agent: Instance) -> None:
    checked = set()
    for method, path, good in (EGRESS, SKILL, MESSAGE, UPGRADE):
        (operation,) = (
            each for each in WITH_BODY if (each.method, address_of(each)) == (method, path)
        )
        assert isinstance(operation.body, type)
        for name, member in operation.body.model_json_schema()["properties"].items():
            if "boolean" not in {each.get("type") for each in member.get("anyOf", [member])}:
                continue
            for value in (0, 1, "true", "no"):
                body = good | {name: value}
                answer = await shared.call(method, path.replace("{id}", agent.id), json=body)
                (problem,) = problems(answer)
                assert (problem["loc"], problem["type"]) == (["body", name], "bool_type"), body
            checked.add(name)
    booleans = {"hibernate", "enabled", "stream", "store", "parallel_tool_calls", "dry_run"}
    assert checked == booleans


async def test_invalid_json_has_its_position_and_no_member(shared: Api, agent: Instance) -> None:
    path = f"/v1/instances/{agent.id}/responses"
    answer = await shared.post(path, content=b'{"model" "gpt-4o"}')
    (problem,) = problems(answer)
    assert (problem["loc"], problem["type"]) == (["body", 9], "json_invalid")
    assert answer.json()["error"]["message"] == problem["msg"]
    assert "line 1 column 10" in problem["msg"]
    assert answer.json()["error"]["param"] is None


@pytest.mark.parametrize("length", [1, 128])
async def test_a_name_may_be_as_long_as_the_contract_says(shared: Api, length: int) -> None:
    answer = await shared.post("/v1/organization/signup", json={"name": "ä" * length}, key=None)
    assert answer.status_code == 201


async def test_a_422_does_not_repeat_the_input(shared: Api) -> None:
    secret = {"model_api_keys": {"openai": ["sk-secret"]}}
    answer = await shared.patch("/v1/organization", json=secret)
    assert "sk-secret" not in answer.text


NO_JSON_OBJECTS = [
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
]


async def test_a_body_that_is_not_a_json_object_is_refused(shared: Api) -> None:
    found = []
    for body, _ in NO_JSON_OBJECTS:
        answer = await shared.post("/v1/instances", content=body)
        found += [(each["type"], *each["loc"][:1]) for each in problems(answer)]
    assert found == [(kind, "body") for _, kind in NO_JSON_OBJECTS]


async def test_an_escaped_surrogate_pair_is_decoded(shared: Api) -> None:
    body = b'{"name": "\\ud83e\\udd9e"}'
    answer = await shared.post("/v1/organization/signup", content=body, key=None)
    assert answer.json()["organization"]["name"] == "🦞"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/merge-patch+json",
        "application/vnd.api+json",
    ],
)
async def test_a_json_body_is_accepted_with_a_json_content_type_or_none(
    shared: Api, content_type: str | None
) -> None:
    answer = await signup_with(
        shared, {} if content_type is None else {"Content-Type": content_type}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/jsonp", "text/json", "nonsense"],
)  # fmt: skip
async def test_another_content_type_is_refused_with_the_right_one(
    shared: Api, content_type: str
) -> None:
    answer = await signup_with(shared, {"Content-Type": content_type})
    assert problems(answer) == [
        {
            "loc": ["body"],
            "msg": "Input should be JSON, sent with Content-Type: application/json",
            "type": "model_attributes_type",
        }
    ]


async def test_a_web_page_must_send_a_json_content_type(shared: Api) -> None:
    """With that type, its browser sends a CORS preflight first."""
    answer = await signup_with(shared, {"Origin": "http://localhost:5173"})
    assert problems(answer)[0]["type"] == "model_attributes_type"


async def signup_with(shared: Api, headers: dict[str, str]) -> httpx.Response:
    body = b'{"name": "Kitchen"}'
    return await shared.post("/v1/organization/signup", content=body, headers=headers, key=None)


@pytest.mark.parametrize(("depth", "status"), [(150, 201), (DEPTH_MAX + 2, 422), (950, 422)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
async def test_json_that_is_nested_too_deep_is_refused(
    shared: Api, depth: int, status: int, opening: str, closing: str
) -> None:
    nested = opening * depth + "1" + closing * depth
    body = f'{{"name": "x", "more": {nested}}}'
    answer = await shared.post("/v1/organization/signup", content=body.encode(), key=None)
    assert answer.status_code == status
    if status == 422:
        assert problems(answer)[0]["type"] == "json_invalid"


@pytest.mark.parametrize("name", ["\x00", "a\nb", "\u2028", "\x1b[31m", "\uffff", "' OR 1=1 --"])
async def test_any_text_is_a_valid_name_and_is_returned_unchanged(shared: Api, name: str) -> None:
    answer = await shared.post("/v1/organization/signup", json={"name": name}, key=None)
    assert answer.json()["organization"]["name"] == name


NO_IDS = ["no-uuid", "no-such", "%00", "%ff", "🦞", "x" * 5000, "a%0Ab", "'"]


async def test_what_can_be_no_instances_id_is_not_found(shared: Api) -> None:
    for wrong in NO_IDS:
        answer = await shared.get(f"/v1/instances/{wrong}/status")
        assert (answer.status_code, answer.json()["detail"]) == (404, "Instance not found."), wrong
    # With an escaped slash it may match another route, or none.
    assert (await shared.get("/v1/instances/..%2F../status")).status_code == 404


async def test_unknown_members_are_ignored(shared: Api) -> None:
    answer = await shared.post("/v1/organization/signup", json={"name": "x", "more": 1}, key=None)
    assert answer.status_code == 201


def sized(size: int) -> bytes:
    """A valid signup of exactly `size` bytes."""
    head, tail = b'{"name": "x", "padding": "', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


BOMB = gzip.compress(b" " * 100 * MAX_BODY_BYTES)


async def test_a_body_up_to_the_limit_is_accepted(shared: Api) -> None:
    body = sized(MAX_BODY_BYTES)
    assert (await shared.post("/v1/organization/signup", content=body)).status_code == 201


async def test_a_body_over_the_limit_is_refused(shared: Api) -> None:
    answer = await shared.post("/v1/organization/signup", content=sized(MAX_BODY_BYTES + 1))
    refused = (413, f"The request body is larger than {MAX_BODY_BYTES} bytes.")
    assert (answer.status_code, answer.json()["detail"]) == refused


async def test_only_calls_that_need_long_bodies_take_them(tmp_path: Path) -> None:
    taken = {}
    async with (
        open_world(tmp_path, max_body_bytes=2 * SMALL_BODY_BYTES) as world,
        open_client(app_of(world)) as client,
    ):
        api, instance = Api(client, world), await world.created()
        for each in WITH_BODY:
            path = re.sub(r"\{(?!channel)\w+(:path)?\}", instance.id, each.path)
            path = path.replace("{channel}", "telegram")
            answer = await api.call(
                each.method, path, content=sized(SMALL_BODY_BYTES + 1), is_documented=False
            )
            taken[each.operation_id] = answer.status_code != 413
    takes_much = {
        each.operation_id for each in all_operations() if each.max_body_bytes != SMALL_BODY_BYTES
    }
    assert {name for name, is_taken in taken.items() if is_taken} == takes_much


async def test_a_body_that_says_it_is_too_long_is_not_read(tmp_path: Path) -> None:
    is_read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal is_read
        is_read = True
        yield b""

    async with (
        open_world(tmp_path, max_body_bytes=2 * MESSAGE_BODY_BYTES) as world,
        open_client(app_of(world)) as client,
    ):
        api, instance = Api(client, world), await world.created()
        for path, limit_bytes in (
            ("/v1/organization/signup", SMALL_BODY_BYTES),
            (f"/v1/instances/{instance.id}/responses", MESSAGE_BODY_BYTES),
            (f"/local/instances/{instance.id}/channels/telegram/messages", PICTURE_BODY_BYTES),
        ):
            headers = {"Content-Type": JSON, "Content-Length": str(limit_bytes + 1)}
            answer = await api.post(path, content=body(), headers=headers)
            assert answer.status_code == 413
            assert f"larger than {limit_bytes} bytes" in answer.text
    assert not is_read


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(sized(MAX_BODY_BYTES)), 201, ""),
        ("deflate", zlib.compress(sized(100)), 201, ""),
        ("identity", sized(100), 201, ""),
        # A few kilobytes that decompress to megabytes.
        ("gzip", BOMB, 413, f"larger than {MAX_BODY_BYTES} bytes"),
        ("gzip", sized(100), 422, "The body is not gzip, although its Content-Encoding is"),
        ("gzip", gzip.compress(sized(100))[:-9], 422, "does not end where its gzip data ends"),
        ("gzip", gzip.compress(sized(100)) + b"x", 422, "does not end where its gzip data ends"),
        ("br", b"x", 415, "Send it uncompressed, or as gzip or deflate."),
        ("gzip, gzip", b"x", 415, "Content-Encoding 'gzip, gzip' cannot be read"),
    ],
    ids=["gzip", "deflate", "identity", "bomb", "plain", "cut", "more", "br", "twice"],
)
async def test_a_compressed_body_is_decoded_up_to_the_limit(
    shared: Api, encoding: str, body: bytes, status: int, words: str
) -> None:
    headers = {"Content-Encoding": encoding}
    answer = await shared.post("/v1/organization/signup", content=body, headers=headers)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


async def test_a_compression_bomb_is_decompressed_only_just_over_the_limit(
    shared: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0

    class Decoder:
        def __init__(self, form: int) -> None:
            self._decoder = real(form)

        def decompress(self, data: bytes, room: int) -> bytes:
            nonlocal decoded
            content = self._decoder.decompress(data, room)
            decoded += len(content)
            return content

        def __getattr__(self, name: str) -> Any:
            return getattr(self._decoder, name)

    real = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Decoder)
    headers = {"Content-Encoding": "gzip"}
    answer = await shared.post("/v1/organization/signup", content=BOMB, headers=headers)
    assert (answer.status_code, decoded) == (413, MAX_BODY_BYTES + 1)


async def test_a_body_without_a_length_is_not_read_beyond_the_limit(shared: Api) -> None:
    sent = 0

    async def forever() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += MAX_BODY_BYTES // 4
            yield b"x" * (MAX_BODY_BYTES // 4)

    answer = await shared.post("/v1/organization/signup", content=forever())
    assert answer.status_code == 413
    assert sent <= MAX_BODY_BYTES * 2


@pytest.mark.parametrize(
    ("content", "is_taken"),
    [
        (b"[" + b"[]," * VALUES_MAX + b"1]", False),
        (b"[" + b'"",' * UNCOUNTED_BYTES + b"1]", False),
        (b"[" + b'"\\\\",' * UNCOUNTED_BYTES + b"1]", False),
        (b'{"' + b'":1,"'.join([b"a"] * UNCOUNTED_BYTES) + b'":1}', False),
        # Strings may contain any number of separators and escaped quotes.
        (json.dumps("[1,2],{3:4}," * VALUES_MAX).encode(), True),
        (json.dumps('"a","b"\n\\' * VALUES_MAX).encode(), True),
        (b'["' + b'","'.join([b"x" * 100] * 50_000) + b'"]', True),
    ],
)
def test_json_with_too_many_values_is_refused_before_parsing(
    content: bytes, is_taken: bool
) -> None:
    assert len(content) > UNCOUNTED_BYTES / 2
    if is_taken:
        check_values(content)
        return
    with pytest.raises(ValueError, match=f"more than {VALUES_MAX} values"):
        check_values(content * (1 + UNCOUNTED_BYTES // len(content)))


async def test_too_many_values_are_a_422_that_says_so(
    shared: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "VALUES_MAX", 1000)
    monkeypatch.setattr(bodies, "UNCOUNTED_BYTES", 1000)
    body = {"name": "Ada", "more": [1] * 1001}
    answer = await shared.post("/v1/organization/signup", json=body, key=None)
    assert answer.status_code == 422
    assert "more than 1000 values" in problems(answer)[0]["msg"]
    body["more"] = ["1, 2, 3, [4]"] * 300
    assert (await shared.post("/v1/organization/signup", json=body, key=None)).status_code == 201
