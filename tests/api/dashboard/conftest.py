"""A browser for tests of the dashboard: its cookies and the headers that it adds."""

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
    """A user with a browser; requests carry its cookies."""

    http: Api

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.client.get(path, headers=NAVIGATING | named(headers))

    async def post(
        self, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """Sends a form or a button's request as htmx does."""
        usual = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", "HX-Request": "true"}
        return await self.http.client.post(
            path, data=form or {}, headers=usual | NAVIGATING | named(headers)
        )

    async def sign_in(self, key: str | None = None) -> httpx.Response:
        """Sends the sign-in form, as a browser does without htmx."""
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
    """A visitor with a session."""
    visitor = Visitor(http)
    assert (await visitor.sign_in()).status_code == 303
    return visitor


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        # The only inline script, which the policy allows by its hash.
        self.feed(html.replace(f"<script>{RELOADING}</script>", "", 1))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, **attributes: Any) -> list[dict[str, str | None]]:
        return [
            present
            for each, present in self.tags
            if each == tag and attributes.items() <= present.items()
        ]
