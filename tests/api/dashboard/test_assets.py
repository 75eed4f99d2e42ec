"""Static files: their content and their addresses."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from chowder_local.dashboard.rendering import Assets
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.conftest import Api
    from tests.api.dashboard.conftest import Visitor

STATIC = files("chowder_local.dashboard").joinpath("static")
PUBLISHED = {
    # htmx.org 2.0.11 on npm: dist/htmx.min.js and LICENSE.
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    # htmx-ext-sse 2.2.4: dist/sse.min.js and LICENSE.
    "htmx-sse.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
    "htmx-sse.LICENSE": "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf",
}
OURS = {"dashboard.css", "dashboard.js", "editor.js", "icon.svg", "logs.js", "uploads.js"}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_third_party_files_match_their_published_hashes(name: str) -> None:
    content = STATIC.joinpath(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PUBLISHED[name]


def test_the_static_folder_has_only_the_listed_files() -> None:
    assert {each.name for each in STATIC.iterdir()} == OURS | set(PUBLISHED)


async def test_every_file_of_a_page_is_served_and_cacheable(http: Api, stranger: Visitor) -> None:
    elements = Elements((await stranger.get("/sign-in")).text)
    found = [each["src"] for each in elements.all("script") + elements.all("img")]
    found += [each["href"] for each in elements.all("link")]
    assert len(found) == 6
    for path in found:
        assert path is not None
        answer = await http.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/assets/dashboard.css", "/assets/dashboard.000000000000.css", "/assets/htmx.LICENSE"]
)
async def test_a_file_with_another_hash_is_not_found(http: Api, path: str) -> None:
    assert (await http.client.get(path)).status_code == 404


def test_a_changed_file_has_another_address() -> None:
    address = Assets().address("dashboard.css")
    digest = hashlib.sha256(STATIC.joinpath("dashboard.css").read_bytes()).hexdigest()
    assert address == f"/assets/dashboard.{digest[:12]}.css"
