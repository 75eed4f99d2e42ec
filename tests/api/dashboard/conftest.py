"""A browser's way with the dashboard: cookies, and the headers that it sends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.dashboard.rendering import RELOADING

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Api

ORIGIN = "http://server.test"
NAVIGATING = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@dataclass
class Visitor:
    """Somebody with a browser; pages are asked for with what its cookies hold."""

    http: Api

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.client.get(path, headers=NAVIGATING | named(headers))

    async def sent(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """What htmx sends for a form or a button."""
        usual = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "HX-Request": "true"}
        return await self.http.client.post(
            path, data=form or {}, headers=usual | NAVIGATING | named(headers)
        )

    async def signed_in(self, key: str | None = None) -> httpx.Response:
        """The answer to the sign-in form, which a browser sends without htmx."""
        form = {"key": self.http.world.key if key is None else key}
        headers = {"Origin": ORIGIN} | NAVIGATING
        return await self.http.client.post("/sign-in", data=form, headers=headers)


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def stranger(http: Api) -> Visitor:
    return Visitor(http)


@pytest.fixture
async def visitor(http: Api) -> Visitor:
    """One who is signed in."""
    visitor = Visitor(http)
    assert (await visitor.signed_in()).status_code == 303
    return visitor


class Elements(HTMLParser):
    """The elements of a page with their attributes, as a browser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        # The one script in a page itself, which the policy names by its hash.
        self.feed(html.replace(f"<script>{RELOADING}</script>", "", 1))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str, **attributes: Any) -> list[dict[str, str | None]]:
        return [
            found
            for each, found in self.found
            if each == tag and attributes.items() <= found.items()
        ]
