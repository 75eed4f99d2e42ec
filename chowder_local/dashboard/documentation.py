"""The documentation at `/guide`, which a wheel brings along and a checkout can build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

SITE = Path(__file__).with_name("guide")
NOT_BUILT = (
    "This checkout's documentation is not built. Run scripts/docs build and start the server "
    "again, or read docs/index.md.\n"
)


def documentation_site(site: Path = SITE) -> list[BaseRoute]:
    """The routes of the site; of a page that says how to build it if it is not there."""
    if site.is_dir():
        return [Mount("/guide", StaticFiles(directory=site, html=True))]
    return [Route("/guide", _explain), Route("/guide/{path:path}", _explain)]


async def _explain(_: Request) -> PlainTextResponse:
    return PlainTextResponse(NOT_BUILT, 404)
