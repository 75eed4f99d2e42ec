"""The documentation at `/guide`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette

from chowder_local.dashboard.documentation import documentation_site

if TYPE_CHECKING:
    from pathlib import Path


def client(site: Path) -> httpx.AsyncClient:
    app = Starlette(routes=documentation_site(site))
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_a_page_of_the_site_is_served_by_the_name_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "tutorial").mkdir()
    (tmp_path / "tutorial" / "index.html").write_text("<h1>Tutorial</h1>")
    async with client(tmp_path) as http:
        page = await http.get("/guide/tutorial/")
        outside = await http.get("/guide/..%2f..%2fetc/passwd")
    assert (page.status_code, page.text) == (200, "<h1>Tutorial</h1>")
    assert page.headers["content-type"].startswith("text/html")
    assert outside.status_code == 404


async def test_a_checkout_without_the_site_says_how_to_build_it(tmp_path: Path) -> None:
    async with client(tmp_path / "nowhere") as http:
        for path in ("/guide", "/guide/tutorial/"):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert "scripts/docs build" in answer.text
