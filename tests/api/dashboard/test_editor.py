"""The editor of text files: opening, saving and conflicts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest

from chowder_local.dashboard.files import EDIT_MAX_BYTES
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor
    from tests.scripted.world import World

HOSTILE = '</textarea><script>alert(1)</script>"&lt;{{ 7*7 }}'


@pytest.fixture
async def agent(world: World) -> Instance:
    return await world.created()


@pytest.fixture
def home(world: World, agent: Instance) -> Path:
    return world.state_of(agent)


@pytest.fixture
def files(agent: Instance) -> str:
    """The address of a running agent's files."""
    return f"/instances/{agent.id}/files"


class Editor:
    """A file in the editor."""

    def __init__(self, visitor: Visitor, files: str, page: httpx.Response) -> None:
        self.visitor, self.files, self.page = visitor, files, page
        found = Elements(page.text).all("input", type="hidden")
        self.form = {each["name"] or "": each["value"] or "" for each in found}
        area = re.search(r"<textarea[^>]*>\n(.*)</textarea>", page.text, re.DOTALL)
        self.content = None if area is None else html.unescape(area[1])

    async def save(self, content: str, **more: str) -> httpx.Response:
        """Sends the form, with the CRLF line ends of browsers."""
        form = self.form | {"content": content.replace("\n", "\r\n")} | more
        answer = await self.visitor.post(f"{self.files}/save", form)
        opened = Elements(answer.text).all("input", id="opened")
        self.form["opened"] = (opened[0]["value"] or "") if opened else self.form["opened"]
        return answer


async def opened(visitor: Visitor, files: str, path: str) -> Editor:
    page = await visitor.get(f"{files}/edit?path={path}")
    assert page.status_code == 200, page.text
    return Editor(visitor, files, page)


def anyway(answer: httpx.Response) -> str | None:
    """The value of the checkbox that agrees to overwrite; None without a checkbox."""
    boxes = Elements(answer.text).all("input", name="anyway")
    return boxes[0]["value"] if boxes else None


CONTENTS = ["", "\n\n# Notes  \n\n", "no end", HOSTILE, "Größe ⚠ \ufeff\x0b\n", "\n"]


async def test_a_file_is_saved_byte_for_byte(visitor: Visitor, files: str, home: Path) -> None:
    for content in CONTENTS:
        (home / "note.md").write_bytes(content.encode())
        editor = await opened(visitor, files, "note.md")
        assert editor.content == content
        assert all("src" in each for each in Elements(editor.page.text).all("script"))
        answer = await editor.save(content)
        assert "note.md is saved." in answer.text, content
        assert (home / "note.md").read_bytes() == content.encode()
        # The next save starts from the saved version.
        assert "is saved." in (await editor.save(f"{content} more")).text, content
        assert (home / "note.md").read_bytes() == f"{content} more".encode()


async def test_crlf_line_ends_are_kept(visitor: Visitor, files: str, home: Path) -> None:
    (home / "note.md").write_bytes(b"one\r\ntwo\r\n")
    editor = await opened(visitor, files, "note.md")
    assert "CRLF line ends" in editor.page.text
    await editor.save("one\n2\n")
    assert (home / "note.md").read_bytes() == b"one\r\n2\r\n"
    (home / "note.md").write_bytes(b"one\r\ntwo\n")
    editor = await opened(visitor, files, "note.md")
    assert "mixed line ends" in editor.page.text
    await editor.save("one\ntwo\n")
    assert (home / "note.md").read_bytes() == b"one\ntwo\n"


async def test_a_changed_file_is_not_overwritten_without_consent(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "note.md").write_text("old")
    editor = await opened(visitor, files, "note.md")
    (home / "note.md").write_text("the agent's")
    answer = await editor.save("mine")
    assert "has changed the file since you opened it" in answer.text
    assert (home / "note.md").read_text() == "the agent's"
    # The consent covers the version that the user has seen, but no later one.
    seen = anyway(answer)
    (home / "note.md").write_text("the agent's again")
    answer = await editor.save("mine", anyway=seen or "")
    assert (home / "note.md").read_text() == "the agent's again"
    answer = await editor.save("mine", anyway=anyway(answer) or "")
    assert "is saved." in answer.text
    assert (home / "note.md").read_text() == "mine"


async def test_a_deleted_file_is_not_created_again_without_consent(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "note.md").write_text("old")
    editor = await opened(visitor, files, "note.md")
    (home / "note.md").unlink()
    answer = await editor.save("mine")
    assert "The file has been deleted since you opened it." in answer.text
    assert not (home / "note.md").exists()
    assert anyway(answer) == ""
    await editor.save("mine", anyway="")
    assert (home / "note.md").read_text() == "mine"


async def test_saving_creates_a_new_file(visitor: Visitor, files: str, home: Path) -> None:
    editor = await opened(visitor, files, "workspace&name=ideas/new.md")
    assert "The file does not exist yet" in editor.page.text
    assert editor.content == ""
    assert not (home / "workspace").exists()
    await editor.save("# New\n")
    assert (home / "workspace/ideas/new.md").read_text() == "# New\n"


async def test_a_new_file_does_not_overwrite_an_existing_one(
    visitor: Visitor, files: str, home: Path
) -> None:
    editor = await opened(visitor, files, ".&name=note.md")
    (home / "note.md").write_text("the agent's")
    answer = await editor.save("mine")
    assert "has created a file with this name" in answer.text
    assert anyway(answer)
    assert (home / "note.md").read_text() == "the agent's"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "The file is not text"),
        (b"a\0b", "The file is not text"),
        (b"x" * (EDIT_MAX_BYTES + 1), "this page edits up to 1 MB"),
    ],
)
async def test_a_file_that_cannot_be_edited_can_be_downloaded(
    visitor: Visitor, files: str, home: Path, content: bytes, words: str
) -> None:
    (home / "data").write_bytes(content)
    editor = await opened(visitor, files, "data")
    assert editor.content is None
    assert words in editor.page.text
    (link,) = {each["href"] for each in Elements(editor.page.text).all("a") if "download" in each}
    assert link
    assert (await visitor.get(link)).content == content


async def test_the_editors_form_may_be_longer_than_others(
    visitor: Visitor, files: str, home: Path
) -> None:
    content = "é\n" * 15_000
    (home / "note.md").write_text(content)
    editor = await opened(visitor, files, "note.md")
    await editor.save(content + "more")
    assert (home / "note.md").read_text() == content + "more"


@pytest.mark.parametrize("path", [".", "folder", "../x", "/x"])
async def test_folders_and_links_cannot_be_edited(
    visitor: Visitor, files: str, home: Path, path: str
) -> None:
    (home / "folder").mkdir()
    assert (await visitor.get(f"{files}/edit?path={path}")).status_code == 400
    form = {"path": path, "content": "x", "opened": "", "anyway": ""}
    answer = await visitor.post(f"{files}/save", form)
    assert answer.status_code == 400
    assert "notice bad" in answer.text


@pytest.mark.parametrize("form", [{}, {"path": "a"}, {"path": "a", "content": "b"}])
async def test_an_incomplete_form_is_refused(
    visitor: Visitor, files: str, home: Path, form: dict[str, str]
) -> None:
    assert (await visitor.post(f"{files}/save", form)).status_code == 422
    assert not (home / "a").exists()
