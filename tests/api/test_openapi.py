"""The OpenAPI document, checked by an independent validator, and the page that shows it."""

from __future__ import annotations

import json
import keyword
import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_schema_validator import (
    OAS31Validator,
    OAS32Validator,
    oas32_format_checker,
)

from chowder_local import __version__
from chowder_local.api.access import Access
from chowder_local.api.handlers.server import encoded
from chowder_local.api.openapi.differences import by_operation
from chowder_local.api.openapi.document import DIFFERENCES, document
from chowder_local.api.schemas.server import ServerEvent
from chowder_local.features.front import all_operations
from chowder_local.http.bodies import JSON
from chowder_local.upstream import sse
from scripts.reference_pages.event_catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chowder_local.api.operations import Operation
    from tests.api.conftest import Api

DOCUMENT = document(all_operations())
DOCUMENT_3_2 = document(all_operations(), is_3_2=True)


def described(operation: Operation) -> dict[str, Any]:
    path = operation.path.replace(":path}", "}")
    result: dict[str, Any] = DOCUMENT["paths"][path][operation.method.lower()]
    return result


def name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_the_document_as_openapi_3_2_differs_in_the_events_of_streams_alone() -> None:
    other = document(all_operations(), is_3_2=True)
    streams = 0
    for operation in all_operations():
        answers = other["paths"][operation.template][operation.method.lower()]["responses"]
        content = answers[str(operation.status)].get("content", {})
        if stream := content.get("text/event-stream"):
            stream["schema"] = {
                "type": "string",
                "contentMediaType": "text/event-stream",
                "contentSchema": {"type": "array", "items": stream.pop("itemSchema")},
            }
            streams += 1
    assert (streams, other["openapi"]) == (4, "3.2.0")
    assert other | {"openapi": "3.1.0"} == DOCUMENT


def test_the_members_of_the_servers_events_are_those_of_the_reference() -> None:
    described = {name for each in CATALOGUE.values() for name in each.members}
    assert ServerEvent.model_fields.keys() == described | {"type", "at", "instance_id"}


async def test_each_event_of_a_stream_fits_its_schema(http: Api) -> None:
    agent = await http.world.created()
    body = {"model": "gpt-4o", "input": "Hi", "stream": True}
    answer = await http.post(f"/v1/instances/{agent.id}/responses", json=body)
    events_of_server = [encoded("1", each).decode() for each in http.world.events.after(0)]
    paths = {
        "/v1/instances/{instance_id}/responses": ("post", answer.text),
        "/local/events": ("get", "".join(events_of_server)),
    }
    for path, (method, text) in paths.items():
        content = DOCUMENT_3_2["paths"][path][method]["responses"]["200"]["content"]
        item = content["text/event-stream"]["itemSchema"]
        data = item["properties"]["data"]
        data = next((each for each in data.get("anyOf", ()) if "contentSchema" in each), data)
        schema = {**data["contentSchema"], "components": DOCUMENT_3_2["components"]}
        validator = OAS32Validator(schema, format_checker=oas32_format_checker)
        events = sse.EventReader().feed(text.encode())
        assert events
        for event in events:
            if event.data != "[DONE]":
                content = json.loads(event.data or "")
                assert [*map(str, validator.iter_errors(content))] == []
                assert event.name == content["type"]


def test_the_document_has_exactly_the_operations_of_the_table() -> None:
    in_document = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert in_document == {
        (each.method, each.path.replace(":path}", "}")) for each in all_operations()
    }
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["version"] == __version__
    assert DOCUMENT["servers"]


def test_every_difference_is_of_known_operations_and_told_with_them() -> None:
    told = {each.operation_id: described(each).get(DIFFERENCES, []) for each in all_operations()}
    assert {name for name, found in told.items() if found} == set(by_operation())
    assert "system_prompt" in str(told["updateInstance"])
    assert "](" not in str(told)


def test_every_operation_and_schema_has_a_unique_name() -> None:
    ids = [described(each)["operationId"] for each in all_operations()]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", each)] == []
    schemas = DOCUMENT["components"]["schemas"]
    assert [name for name in schemas if not re.fullmatch(r"([A-Z][a-z]+)+", name)] == []


RESERVED = """
abstract alias array base begin bool boolean byte callable case catch chan char checked clone const
crate decimal declare default defer delegate delete do double dyn echo empty end ensure enum event
export extends extension extern fallthrough final fixed float fn foreach func function goto guard
impl implements implicit init inout instanceof int interface internal is isset let list lock long
loop map match mod module move mut namespace native new next null object operator out override
package params print private protected protocol pub public range readonly redo ref require rescue
retry sbyte select self sizeof stackalloc static str string strictfp struct super switch
synchronized then this throw throws trait transient try type typealias typeof uint ulong unchecked
undef unless unsafe unset until use ushort using val var virtual void volatile when where
"""
"""What Go, JavaScript, Java, C#, Kotlin, Swift, Rust, PHP and Ruby reserve, and Python does not."""


def test_generators_can_make_types_of_all_schemas() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    lower = [each.lower() for each in schemas]
    assert len(set(lower)) == len(lower)
    assert set(lower) & {*keyword.kwlist, *RESERVED.split()} == set()
    # Go's have a function NewX for each X, and one name for each value of all enumerations.
    assert [each for each in schemas if each.removeprefix("New") in schemas.keys() - {each}] == []
    values = [value for each in schemas.values() for value in each.get("enum", ())]
    assert len(set(values)) == len(values)


def test_optional_members_have_no_default() -> None:
    defaults = {
        f"{model}.{member}"
        for model, schema in DOCUMENT["components"]["schemas"].items()
        for member, known in schema.get("properties", {}).items()
        if "default" in known and member not in schema.get("required", ())
    }
    assert defaults == set()
    creation = DOCUMENT["components"]["schemas"]["InstanceCreation"]["properties"]
    assert creation["model_provider"]["description"] == 'Default: `"anthropic"`.'


@pytest.mark.parametrize("value", ["", " \n\x1f", []])
def test_a_message_without_input_does_not_fit_its_schema(value: Any) -> None:
    schema = DOCUMENT["components"]["schemas"]["Message"]["properties"]["input"]
    assert schema["anyOf"][0]["minLength"] == 1
    assert OAS31Validator(schema).is_valid("Hi")
    assert not OAS31Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"},
        {"type": "function_call", "id": "fc_1", "status": "completed", "name": "get_weather"},
        {"type": "unheard_of"},
    ],
)
def test_a_response_item_has_the_members_of_its_type(item: dict[str, Any]) -> None:
    response = DOCUMENT["components"]["schemas"]["ResponseView"]
    schema = {**response["properties"]["output"], "components": DOCUMENT["components"]}
    assert not OAS31Validator(schema).is_valid([item])


def test_headers_of_single_operations_are_documented() -> None:
    of_them = {
        name(each): described(each)["responses"]["200"]["headers"][header]["$ref"]
        for each in all_operations()
        for header in each.headers
    }
    assert of_them == {
        "GET /v1/organization": "#/components/headers/OfflineProviders",
        "GET /v1/instances/{instance_id}/status": "#/components/headers/QueuePosition",
    }


def failing(rule: Callable[[Operation], bool]) -> list[str]:
    """The names of the operations that break a rule."""
    return [name(each) for each in all_operations() if not rule(each)]


def test_every_operation_says_whether_it_needs_a_key() -> None:
    def says_so(operation: Operation) -> bool:
        answers = described(operation)["responses"]
        needs_key = operation.access is not Access.ANYONE
        needs_more = needs_key and operation.access is not Access.ANY_KEY
        result = (bool(described(operation)["security"]), "401" in answers, "403" in answers)
        return result == (needs_key, needs_key, needs_more)

    assert failing(says_so) == []


def test_every_operation_describes_its_body_and_all_its_responses() -> None:
    def describes(operation: Operation) -> bool:
        known = described(operation)
        statuses = {str(operation.status), *map(str, operation.errors)}
        has_body = operation.body is not None
        return ("requestBody" in known) == has_body and statuses <= set(known["responses"])

    assert failing(describes) == []


def test_exactly_the_local_operations_and_those_with_a_body_or_query_document_422() -> None:
    def says_so(operation: Operation) -> bool:
        takes = operation.body is not None or bool(operation.query)
        return ("422" in described(operation)["responses"]) == (takes or operation.is_local)

    assert failing(says_so) == []


def test_exactly_the_operations_with_a_json_body_document_413_and_415() -> None:
    def says_so(operation: Operation) -> bool:
        takes_json = isinstance(operation.body, type) and operation.body_type == JSON
        known = set(described(operation)["responses"]) - set(map(str, operation.errors))
        return known & {"413", "415"} == ({"413", "415"} if takes_json else set())

    assert failing(says_so) == []


def test_every_operation_with_an_id_documents_404() -> None:
    def says_so(operation: Operation) -> bool:
        has_id = "{" in operation.path and operation.access is not Access.ANYONE
        return not has_id or "404" in described(operation)["responses"]

    assert failing(says_so) == []


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and content of every body and response."""
    for operation in all_operations():
        known = described(operation)
        bodies = {"body": known.get("requestBody", {})} | known["responses"]
        for what, body in bodies.items():
            target = body.get("$ref", "").removeprefix("#/components/responses/")
            result = DOCUMENT["components"]["responses"][target] if target else body
            for media_type, content in result.get("content", {}).items():
                yield f"{name(operation)} {what} {media_type}", content


def examples_of(content: dict[str, Any]) -> list[Any]:
    single = [content["example"]] if "example" in content else []
    return [each["value"] for each in content.get("examples", {}).values()] + single


def test_every_body_and_response_has_an_example() -> None:
    assert len(list(contents())) > len(all_operations())
    assert [what for what, content in contents() if not examples_of(content)] == []


def test_no_response_is_an_undescribed_object() -> None:
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
        "JobView.openclaw",
        "HookView.answer",
        "ModelCallDetailsView.request",
        "RunView.openclaw",
        "Step.arguments",
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


async def test_the_document_needs_no_key(shared: Api) -> None:
    answer = await shared.get("/openapi.json", key=None)
    assert answer.status_code == 200
    assert answer.json() == DOCUMENT
    assert (await shared.get("/openapi-3.2.json", key=None)).json() == DOCUMENT_3_2


async def test_the_page_loads_nothing_from_the_internet(shared: Api) -> None:
    page = (await shared.get("/docs", key=None)).text
    assert "//" not in re.sub(r"<!doctype[^>]*>", "", page)
    addresses = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("/")
        assert (await shared.get(address, key=None)).status_code == 200


async def test_a_missing_asset_is_a_404(shared: Api) -> None:
    answer = await shared.get("/docs/assets/nowhere.js", key=None)
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py"])
async def test_an_asset_path_cannot_leave_its_folder(shared: Api, path: str) -> None:
    answer = await shared.get(f"/docs/assets/{path}", key=None)
    assert answer.status_code == 404
