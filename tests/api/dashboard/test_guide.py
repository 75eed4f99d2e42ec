"""The guide at `/guide`, which is rendered from `docs/`."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from chowder_local.dashboard import guide
from chowder_local.dashboard.rendering import HEADERS
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.dashboard.conftest import Visitor

PAGES = [name for name in guide.guide_files() if name.endswith(".md")]


async def test_a_checkout_serves_its_guide_to_everybody(stranger: Visitor) -> None:
    assert (await stranger.get("/guide")).headers["Location"] == "/guide/"
    index, page, picture = [
        await stranger.get(f"/guide/{name}")
        for name in ("", "guides/several-machines.md", "images/instance-states.svg")
    ]
    assert index.status_code == page.status_code == picture.status_code == 200
    assert 'href="/guide/guides/several-machines.md"' in index.text
    assert '<h1 id="run-agents-on-several-machines">' in page.text
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    for answer in (index, page, picture):
        assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
    for _, attributes in Elements(page.text).tags:
        assert "style" not in attributes


async def test_an_address_of_the_first_release_leads_to_its_page(stranger: Visitor) -> None:
    for old, new in (
        ("tutorial/", "tutorial.md"),
        ("explanation/adr/", "explanation/adr/index.md"),
    ):
        assert (await stranger.get(f"/guide/{old}")).headers["Location"] == f"/guide/{new}"


async def test_the_guide_has_no_other_files(stranger: Visitor) -> None:
    for path in ("..%2fpyproject.toml", "%2fetc%2fpasswd", "guides/../../README.md", "nowhere.md"):
        assert (await stranger.get(f"/guide/{path}")).status_code == 404


async def test_the_guide_is_searched(stranger: Visitor) -> None:
    found = await stranger.get("/guide/?q=hibernation+freeze")
    assert 'href="/guide/guides/capacity.md"' in found.text
    nothing = await stranger.get("/guide/?q=<b>nowhere-to-be-found")
    assert "No page has all of these words." in nothing.text
    assert "<b>" not in nothing.text


def test_a_changed_page_is_rendered_anew(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# Before\n")
    before = guide.render_page(file)
    file.write_text("# After\n")
    os.utime(file, ns=(1, 1))
    assert (before.title, guide.render_page(file).title) == ("Before", "After")


def test_a_link_of_the_guide_leads_to_a_place_in_it() -> None:
    pages = {name: Elements(guide.render_page(guide.guide_files()[name]).html) for name in PAGES}
    ids = {
        name: {each["id"] for _, each in page.tags if "id" in each} for name, page in pages.items()
    }
    broken = []
    for name, page in pages.items():
        targets = [each.get("href") for each in page.all("a")]
        targets += [each.get("src") for each in page.all("img")]
        for target in targets:
            address, anchor = urldefrag(urljoin(name, target or ""))
            if "://" in address:
                continue
            if address not in guide.guide_files() or (
                anchor and anchor not in ids.get(address, ())
            ):
                broken.append(f"{name}: {target}")
    assert not broken


def test_the_navigation_has_every_page() -> None:
    linked = {each.address for links in guide.navigation().values() for each in links}
    records = {name for name in PAGES if posixpath.basename(name).startswith("00")}
    assert set(PAGES) - linked - records == {"index.md"}


def test_a_drawing_is_a_picture() -> None:
    # The guide has no program that draws: no page of it may load one from elsewhere.
    assert not [name for name in PAGES if "```mermaid" in guide.guide_files()[name].read_text()]
