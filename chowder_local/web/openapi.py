"""The OpenAPI document, made from the route table (pure), and the page that shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from chowder_local import __version__
from chowder_local.web import payloads
from chowder_local.web.access import Access

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from chowder_local.web.routes import Operation

_PARAMETER = re.compile(r"\{(\w+)(:\w+)?\}")
_REF = "#/components/schemas/{model}"

_ERRORS: dict[int, tuple[str, type[BaseModel]]] = {
    400: ("The request makes no sense here.", payloads.ErrorView),
    401: ("The key is missing or invalid.", payloads.ErrorView),
    402: ("The tier's instance limit is reached.", payloads.ErrorView),
    403: ("The key may not do this.", payloads.ErrorView),
    404: ("There is no such thing in the key's organization.", payloads.ErrorView),
    409: ("The instance is in the wrong state.", payloads.ErrorView),
    413: ("The body is too large.", payloads.ErrorView),
    422: ("The request breaks a bound.", payloads.ValidationErrorView),
    502: ("Gateway, sandbox or engine cannot be reached.", payloads.GatewayErrorView),
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document as plain data."""
    table = list(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "chowder-local", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _schemas(table),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def documentation_routes(operations: Iterable[Operation]) -> list[Route | Mount]:
    """`/openapi.json`, and `/docs` that shows it without asking anything of the Internet."""
    described = document(operations)

    async def openapi(_: Request) -> JSONResponse:
        return JSONResponse(described)

    async def docs(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE)

    return [
        Route("/openapi.json", openapi),
        Route("/docs", docs),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui_path)),
    ]


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "description": (operation.handler.__doc__ or "").strip(),
        "operationId": _operation_id(operation),
        "tags": [operation.tag],
        "parameters": _parameters(operation),
        "responses": {str(operation.status): _answer(operation)},
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(_ref(operation.body))}
    statuses = operation.errors
    if operation.access is not Access.ANYONE:
        described["security"] = [{"key": []}]
        statuses += (401, 403)
    for status in sorted(statuses):
        words, model = _ERRORS[status]
        described["responses"][str(status)] = {"description": words, "content": _json(_ref(model))}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", operation.summary.lower())
    return "_".join(words)


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [(name, "path") for name, _ in _PARAMETER.findall(operation.path)]
    in_query = [(name, "query") for name in operation.query]
    return [
        {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}
        for name, where in in_path + in_query
    ]


def _answer(operation: Operation) -> dict[str, Any]:
    answer = operation.answer
    described: dict[str, Any] = {"description": operation.summary}
    if isinstance(answer, str):
        described["content"] = {answer: {"schema": {"type": "string"}}}
    elif isinstance(answer, list):
        described["content"] = _json({"type": "array", "items": _ref(answer[0])})
    elif answer is not None:
        described["content"] = _json(_ref(answer))
    return described


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = dict.fromkeys(model for _, model in _ERRORS.values())
    for operation in operations:
        answer = operation.answer[0] if isinstance(operation.answer, list) else operation.answer
        for model in (operation.body, answer):
            if isinstance(model, type) and issubclass(model, BaseModel):
                models[model] = None
    _, schema = models_json_schema([(each, "validation") for each in models], ref_template=_REF)
    schemas: dict[str, Any] = schema["$defs"]
    return schemas


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>chowder-local API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<main id="api"></main>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", deepLinking: true, persistAuthorization: true,
});
</script>
</body>
</html>
"""
