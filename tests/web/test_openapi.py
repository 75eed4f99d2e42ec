"""The OpenAPI document, judged by an independent validator, and the page that shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from chowder_local import __version__
from chowder_local.web.access import Access
from chowder_local.web.openapi.document import document
from chowder_local.web.openapi.examples import UNKNOWN
from chowder_local.web.routes import OPERATIONS, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.conftest import Api

DOCUMENT = document(OPERATIONS)


def described(operation: Operation) -> dict[str, Any]:
    path = operation.path.replace(":path}", "}")
    found: dict[str, Any] = DOCUMENT["paths"][path][operation.method.lower()]
    return found


def name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_the_document_is_valid() -> None:
    problems = OpenAPIV31SpecValidator(DOCUMENT).iter_errors()
    assert [str(problem) for problem in problems] == []


def test_it_describes_exactly_what_the_table_has() -> None:
    in_document = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert in_document == {(each.method, each.path.replace(":path}", "}")) for each in OPERATIONS}
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["version"] == __version__
    assert DOCUMENT["servers"]


def test_every_operation_and_schema_has_a_name_of_its_own_for_generated_clients() -> None:
    ids = [described(each)["operationId"] for each in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", each)] == []
    schemas = DOCUMENT["components"]["schemas"]
    assert [name for name in schemas if not re.fullmatch(r"([A-Z][a-z]+)+", name)] == []


def test_what_may_be_left_out_has_no_default_that_makes_generators_require_it() -> None:
    defaults = {
        f"{model}.{member}"
        for model, schema in DOCUMENT["components"]["schemas"].items()
        for member, known in schema.get("properties", {}).items()
        if "default" in known and member not in schema.get("required", ())
    }
    assert defaults == set()
    creation = DOCUMENT["components"]["schemas"]["InstanceCreation"]["properties"]
    assert creation["model_provider"]["description"] == 'Default: `"anthropic"`.'


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"},
        {"type": "function_call", "id": "fc_1", "status": "completed", "name": "get_weather"},
        {"type": "unheard_of"},
    ],
)
def test_an_item_of_an_answer_has_the_members_of_its_type(item: dict[str, Any]) -> None:
    response = DOCUMENT["components"]["schemas"]["ResponseView"]
    schema = {**response["properties"]["output"], "components": DOCUMENT["components"]}
    assert not OAS31Validator(schema).is_valid([item])


def test_who_polls_is_told_of_the_place_in_the_queue() -> None:
    of_it = [each for each in OPERATIONS if each.headers]
    assert [name(each) for each in of_it] == ["GET /v1/instances/{instance_id}/status"]
    (header,) = of_it[0].headers
    reference = described(of_it[0])["responses"]["200"]["headers"][header]["$ref"]
    assert reference == "#/components/headers/QueuePosition"


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_says_whether_it_needs_a_key(operation: Operation) -> None:
    answers = described(operation)["responses"]
    needs_key = operation.access is not Access.ANYONE
    needs_more = needs_key and operation.access is not Access.ANY_KEY
    assert ("security" in described(operation)) == needs_key
    assert (("401" in answers), ("403" in answers)) == (needs_key, needs_more)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_tells_its_parameters_body_and_answers(operation: Operation) -> None:
    known = described(operation)
    in_path = {each["name"] for each in known["parameters"] if each["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)", operation.path))
    assert ("requestBody" in known) == (operation.body is not None)
    assert {str(operation.status), *map(str, operation.errors)} <= set(known["responses"])
    assert known["summary"]
    assert known["description"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_a_parameter_is_explained_and_has_a_schema(operation: Operation) -> None:
    for parameter in described(operation)["parameters"]:
        assert parameter["description"], parameter["name"]
        assert "anyOf" in parameter["schema"] or parameter["schema"]["type"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_what_can_break_a_bound_says_so(operation: Operation) -> None:
    answers = described(operation)["responses"]
    takes = operation.body is not None or bool(operation.query)
    assert ("422" in answers) == takes


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_of_an_instance_says_that_there_may_be_none(operation: Operation) -> None:
    if "{" in operation.path and operation.access is not Access.ANYONE:
        assert "404" in described(operation)["responses"]


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body and answer: what it is called, and what the document says of it."""
    for operation in OPERATIONS:
        known = described(operation)
        bodies = {"body": known.get("requestBody", {})} | known["responses"]
        for what, body in bodies.items():
            target = body.get("$ref", "").removeprefix("#/components/responses/")
            found = DOCUMENT["components"]["responses"][target] if target else body
            for media_type, content in found.get("content", {}).items():
                yield f"{name(operation)} {what} {media_type}", content


CONTENTS = dict(contents())


@pytest.mark.parametrize("what", sorted(CONTENTS))
def test_a_body_or_answer_has_examples_that_fit_its_schema(what: str) -> None:
    content = CONTENTS[what]
    examples = [each["value"] for each in content.get("examples", {}).values()]
    examples += [content["example"]] if "example" in content else []
    assert examples
    if "application/json" not in what:
        return
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    for example in examples:
        assert UNKNOWN not in texts(example), f"a text has no example of its own: {example}"
        problems = OAS31Validator(schema, format_checker=oas31_format_checker).iter_errors(example)
        assert [problem.message for problem in problems] == []


def texts(content: Any) -> Iterator[str]:
    """All texts in some content."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for each in content.values() if isinstance(content, dict) else content:
            yield from texts(each)


def test_every_subject_is_explained() -> None:
    assert {each["name"] for each in DOCUMENT["tags"]} == {each.tag for each in OPERATIONS}
    assert all(each["description"] for each in DOCUMENT["tags"])


def test_no_answer_is_an_object_that_nobody_described() -> None:
    free = {
        f"{model}.{member}"
        for model, schema in DOCUMENT["components"]["schemas"].items()
        for member, known in schema.get("properties", {}).items()
        if model.endswith("View") and is_free(known)
    }
    # Whatever the user configured, what nobody but OpenClaw, or a provider, knows, and what any
    # tool may take.
    assert free <= {
        "InstanceView.openclaw_config",
        "ChannelStatusView.details",
        "ExchangeDetailsView.request",
        "TurnView.arguments",
    }


def is_free(schema: dict[str, Any]) -> bool:
    choices = schema.get("anyOf", [schema])
    return any(
        each.get("type", "object") == "object"
        and not {"$ref", "properties"} & set(each)
        and not isinstance(each.get("additionalProperties"), dict)
        for each in choices
    )


async def test_the_server_gives_the_document_to_anyone(http: Api) -> None:
    answer = await http.get("/openapi.json", key=None)
    assert answer.status_code == 200
    assert answer.json() == DOCUMENT


async def test_the_page_asks_nothing_of_the_internet(http: Api) -> None:
    page = (await http.get("/docs", key=None)).text
    assert "//" not in re.sub(r"<!doctype[^>]*>", "", page)
    addresses = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("/")
        assert (await http.get(address, key=None)).status_code == 200


async def test_an_asset_that_is_not_there_is_not_found(http: Api) -> None:
    answer = await http.get("/docs/assets/nowhere.js", key=None)
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py"])
async def test_the_assets_folder_cannot_be_left(http: Api, path: str) -> None:
    answer = await http.get(f"/docs/assets/{path}", key=None)
    assert answer.status_code == 404
