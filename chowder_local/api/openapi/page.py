"""The OpenAPI documents, and a page that shows it without access to the Internet."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from chowder_local.api.openapi.document import document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.api.operations import Operation


PATH, PATH_3_2 = "/openapi.json", "/openapi-3.2.json"


def documentation_routes(operations: Sequence[Operation]) -> list[Route | Mount]:
    # The page is made at its first request, which few servers get: making it would slow every
    # start.
    @cache
    def made_once(*, is_3_2: bool) -> dict[str, Any]:
        return document(operations, is_3_2=is_3_2)

    async def openapi(request: Request) -> JSONResponse:
        is_3_2 = request.url.path == PATH_3_2
        return JSONResponse(await asyncio.to_thread(made_once, is_3_2=is_3_2))

    async def docs(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE)

    return [
        Route(PATH, openapi),
        Route(PATH_3_2, openapi),
        Route("/docs", docs),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui_path)),
    ]


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
