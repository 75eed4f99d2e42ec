"""The OpenAPI document, judged by an independent validator, and the page that shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from chowder_local import __version__
from chowder_local.web.access import Access
from chowder_local.web.openapi import document
from chowder_local.web.routes import OPERATIONS, Operation

if TYPE_CHECKING:
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


def test_every_operation_has_an_id_of_its_own() -> None:
    ids = [described(each)["operationId"] for each in OPERATIONS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_says_whether_it_needs_a_key(operation: Operation) -> None:
    answers = described(operation)["responses"]
    needs_key = operation.access is not Access.ANYONE
    assert ("security" in described(operation)) == needs_key
    assert ("401" in answers) == ("403" in answers) == needs_key


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_tells_its_parameters_body_and_answers(operation: Operation) -> None:
    known = described(operation)
    in_path = {each["name"] for each in known["parameters"] if each["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)", operation.path))
    assert ("requestBody" in known) == (operation.body is not None)
    assert {str(operation.status), *map(str, operation.errors)} <= set(known["responses"])
    assert known["summary"]
    assert known["description"]


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
