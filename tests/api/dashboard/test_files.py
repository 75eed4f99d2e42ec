"""An instance's files: folders, uploads and downloads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from chowder_local.dashboard.files import PORTION
from tests.api.dashboard.conftest import NAVIGATING, ORIGIN, Elements
from tests.scripted.world import MAX_BODY_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor
    from tests.scripted.world import World

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}&amp;'#?.md"
BINARY = bytes(range(256))


@pytest.fixture
async def agent(world: World) -> Instance:
    return await world.created()


@pytest.fixture
def home(world: World, agent: Instance) -> Path:
    """The empty instance root."""
    state = world.state_of(agent)
    for file in state.iterdir():
        file.unlink()
    return state


@pytest.fixture
def files(agent: Instance) -> str:
    """The address of a running agent's files."""
    return f"/instances/{agent.id}/files"


async def upload(
    visitor: Visitor, files: str, path: str, name: str, content: bytes
) -> httpx.Response:
    """Sends a file as the page's script does."""
    headers = {"Origin": ORIGIN, "HX-Request": "true"} | NAVIGATING
    return await visitor.http.client.post(
        f"{files}/upload", data={"path": path}, files={"file": (name, content)}, headers=headers
    )


def linked(html: str, ending: str) -> list[str]:
    """The paths in a page's links whose addresses end with `ending`."""
    links = [urlsplit(each.get("href") or "") for each in Elements(html).all("a")]
    queries = [parse_qs(each.query) for each in links if each.path.endswith(ending)]
    return [each["path"][0] for each in queries if "path" in each]


async def test_folders_are_listed_first(visitor: Visitor, files: str, home: Path) -> None:
    for name in ("b.md", "A.md", "c.md"):
        (home / name).write_text("x" * 1500)
    for name in ("z", "y"):
        (home / name).mkdir()
    html = (await visitor.get(files)).text
    assert linked(html, "/files")[-2:] == ["y", "z"]
    assert linked(html, "/edit") == ["A.md", "b.md", "c.md"]
    assert linked(html, "/download") == ["A.md", "b.md", "c.md"]
    assert html.count("2 kB") == 3


async def test_a_folder_links_to_its_parents(visitor: Visitor, files: str, home: Path) -> None:
    (home / "one" / "two" / "three").mkdir(parents=True)
    html = (await visitor.get(f"{files}?path=one/./two/three/..//three")).text
    assert linked(html, "/files") == [".", "one", "one/two"]
    assert "This folder is empty." in html


NAMES = [HOSTILE.replace("/", ""), "n" * 255, "Größe 100%+1.md", " x ", "..."]


async def test_any_file_name_is_shown_as_text(visitor: Visitor, files: str, home: Path) -> None:
    (home / "folder").mkdir()
    for name in NAMES:
        (home / name).write_text(f"content of {name}")
        (home / "folder" / name).mkdir()
    for path in (".", "folder"):
        html = (await visitor.get(f"{files}?path={path}")).text
        elements = Elements(html)
        assert all("src" in each for each in elements.all("script"))
        assert not [each for _, each in elements.tags if "onerror" in each]
        assert "{{ 7*7 }}" in html
    root = (await visitor.get(files)).text
    assert sorted(linked(root, "/edit")) == sorted(NAMES)
    links = [each["href"] or "" for each in Elements(root).all("a") if "download" in each]
    fetched = [(await visitor.get(link)).text for link in links]
    assert fetched == [f"content of {name}" for name in linked(root, "/edit")]
    inside = (await visitor.get(f"{files}?path=folder")).text
    for name in NAMES:
        assert f"folder/{name}" in linked(inside, "/files"), name
        path = quote(f"folder/{name}")
        assert (await visitor.get(f"{files}?path={path}")).status_code == 200, name


async def test_a_large_folder_is_listed_in_portions_and_searched(
    visitor: Visitor, files: str, home: Path
) -> None:
    for number in range(2 * PORTION + 1):
        (home / f"note-{number:04}.md").touch()
    names: list[str] = []
    address: str | None = files
    while address is not None:
        html = (await visitor.get(address)).text
        assert len(linked(html, "/edit")) <= PORTION
        names += linked(html, "/edit")
        more = Elements(html).all("a", id="show-more")
        address = more[0]["href"] if more else None
    assert names == [f"note-{number:04}.md" for number in range(2 * PORTION + 1)]
    assert linked((await visitor.get(f"{files}?q=TE-0399")).text, "/edit") == ["note-0399.md"]
    assert "Nothing in this folder has this text" in (await visitor.get(f"{files}?q=no-such")).text


async def test_links_and_special_files_are_listed_but_not_opened(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "link").symlink_to("/etc/passwd")
    os.mkfifo(home / "pipe")
    html = (await visitor.get(files)).text
    assert "link" in html
    assert "pipe" in html
    assert linked(html, "/edit") == linked(html, "/download") == []
    for name in ("link", "pipe"):
        assert (await visitor.get(f"{files}/download?path={name}")).status_code == 400
        assert (await visitor.get(f"{files}/edit?path={name}")).status_code == 400


NO_FOLDERS = [
    ("nowhere", 404, "File not found."),
    ("../..", 400, "leads out of the instance root"),
    ("/etc", 400, "absolute"),
    ("file", 400, "is not a directory"),
]


async def test_a_wrong_folder_is_explained_in_the_page(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "file").touch()
    for path, status, words in NO_FOLDERS:
        answer = await visitor.get(f"{files}?path={path}")
        assert answer.status_code == status, path
        assert words in answer.text, path
        assert linked(answer.text, "/files")[0] == ".", path


async def test_the_page_of_a_stopped_instance_says_what_to_do(visitor: Visitor) -> None:
    agent = await visitor.http.world.stopped()
    files = f"/instances/{agent.id}/files"
    for address in (files, f"{files}/edit?path=AGENTS.md"):
        answer = await visitor.get(address)
        assert "is stopped. Start it above to see its files." in answer.text
    assert (await visitor.get(f"{files}/download?path=AGENTS.md")).status_code == 409
    assert (await upload(visitor, files, "./", "a", b"")).status_code == 409


@pytest.mark.parametrize("name", ["chart.png", HOSTILE.replace("/", ""), "ü.bin"])
async def test_an_upload_is_written_to_its_folder_completely(
    visitor: Visitor, files: str, home: Path, name: str
) -> None:
    (home / "workspace").mkdir()
    # Longer than any body that the server holds in memory.
    content = BINARY * (2 * MAX_BODY_BYTES // len(BINARY))
    for path, place in (("./", home), ("workspace/", home / "workspace")):
        answer = await upload(visitor, files, path, name, content)
        assert answer.status_code == 204, answer.text
        (kept,) = [each for each in place.iterdir() if each.is_file()]
        assert kept.read_bytes() == content
        assert linked((await visitor.get(f"{files}?path={path}")).text, "/edit") == [
            f"{path}{kept.name}".removeprefix("./")
        ]


async def test_a_refused_upload_is_explained(visitor: Visitor, files: str) -> None:
    answer = await upload(visitor, files, "../", "a", b"")
    assert answer.status_code == 400
    assert "leads out of the instance root" in answer.text
    assert Elements(answer.text).all("div")[0]["class"] == "notice bad"


async def test_a_download_is_never_rendered_as_a_page(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "page.html").write_bytes(b"<script>alert(1)</script>" + BINARY)
    answer = await visitor.get(f"{files}/download?path=page.html")
    assert answer.content == b"<script>alert(1)</script>" + BINARY
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="page.html"')
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"
    head = await visitor.http.client.head(f"{files}/download?path=page.html", headers=NAVIGATING)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]
    assert (await visitor.get(f"{files}/download?path=none")).status_code == 404
