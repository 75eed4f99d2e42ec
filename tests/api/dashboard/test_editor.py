"""A text file in the browser: opened, changed, saved, and what is in the way of that."""

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

    from tests.api.dashboard.conftest import Visitor
    from tests.scripted.world import World

HOSTILE = '</textarea><script>alert(1)</script>"&lt;{{ 7*7 }}'


@pytest.fixture
def home(world: World) -> Path:
    return world.root


@pytest.fixture
async def files(visitor: Visitor) -> str:
    """Where the files of a running agent are."""
    return f"/instances/{(await visitor.http.world.created()).id}/files"


class Editor:
    """A file that somebody has opened."""

    def __init__(self, visitor: Visitor, files: str, page: httpx.Response) -> None:
        self.visitor, self.files, self.page = visitor, files, page
        found = Elements(page.text).all("input", type="hidden")
        self.form = {each["name"] or "": each["value"] or "" for each in found}
        area = re.search(r"<textarea[^>]*>\n(.*)</textarea>", page.text, re.DOTALL)
        self.content = None if area is None else html.unescape(area[1])

    async def saved(self, content: str, **more: str) -> httpx.Response:
        """What the form sends: lines end in it as browsers have it."""
        form = self.form | {"content": content.replace("\n", "\r\n")} | more
        answer = await self.visitor.sent(f"{self.files}/save", form)
        opened = Elements(answer.text).all("input", id="opened")
        self.form["opened"] = (opened[0]["value"] or "") if opened else self.form["opened"]
        return answer


async def opened(visitor: Visitor, files: str, path: str) -> Editor:
    page = await visitor.get(f"{files}/edit?path={path}")
    assert page.status_code == 200, page.text
    return Editor(visitor, files, page)


def anyway(answer: httpx.Response) -> str | None:
    """What the box sends that says to save all the same; None if there is none."""
    boxes = Elements(answer.text).all("input", name="anyway")
    return boxes[0]["value"] if boxes else None


CONTENTS = ["", "\n\n# Notes  \n\n", "no end", HOSTILE, "Größe ⚠ \ufeff\x0b\n", "\n"]


async def test_a_file_is_shown_as_it_is_and_saved_as_it_was(
    visitor: Visitor, files: str, home: Path
) -> None:
    for content in CONTENTS:
        (home / "note.md").write_bytes(content.encode())
        editor = await opened(visitor, files, "note.md")
        assert editor.content == content
        assert all("src" in each for each in Elements(editor.page.text).all("script"))
        answer = await editor.saved(content)
        assert "note.md is saved." in answer.text, content
        assert (home / "note.md").read_bytes() == content.encode()
        # It goes on from what was saved.
        assert "is saved." in (await editor.saved(f"{content} more")).text, content
        assert (home / "note.md").read_bytes() == f"{content} more".encode()


async def test_windows_ends_of_lines_stay(visitor: Visitor, files: str, home: Path) -> None:
    (home / "note.md").write_bytes(b"one\r\ntwo\r\n")
    editor = await opened(visitor, files, "note.md")
    assert "lines end as on Windows" in editor.page.text
    await editor.saved("one\n2\n")
    assert (home / "note.md").read_bytes() == b"one\r\n2\r\n"
    (home / "note.md").write_bytes(b"one\r\ntwo\n")
    editor = await opened(visitor, files, "note.md")
    assert "lines end in several ways" in editor.page.text
    await editor.saved("one\ntwo\n")
    assert (home / "note.md").read_bytes() == b"one\ntwo\n"


async def test_what_somebody_else_has_changed_is_not_overwritten_unasked(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "note.md").write_text("old")
    editor = await opened(visitor, files, "note.md")
    (home / "note.md").write_text("the agent's")
    answer = await editor.saved("mine")
    assert "has been changed since you opened it" in answer.text
    assert (home / "note.md").read_text() == "the agent's"
    # What was seen may be replaced, and nothing that has come since.
    seen = anyway(answer)
    (home / "note.md").write_text("the agent's again")
    answer = await editor.saved("mine", anyway=seen or "")
    assert (home / "note.md").read_text() == "the agent's again"
    answer = await editor.saved("mine", anyway=anyway(answer) or "")
    assert "is saved." in answer.text
    assert (home / "note.md").read_text() == "mine"


async def test_what_is_gone_meanwhile_is_not_made_again_unasked(
    visitor: Visitor, files: str, home: Path
) -> None:
    (home / "note.md").write_text("old")
    editor = await opened(visitor, files, "note.md")
    (home / "note.md").unlink()
    answer = await editor.saved("mine")
    assert "The file is gone since you opened it." in answer.text
    assert not (home / "note.md").exists()
    assert anyway(answer) == ""
    await editor.saved("mine", anyway="")
    assert (home / "note.md").read_text() == "mine"


async def test_a_new_file_is_made_when_it_is_saved(
    visitor: Visitor, files: str, home: Path
) -> None:
    editor = await opened(visitor, files, "workspace&name=ideas/new.md")
    assert "There is no such file yet" in editor.page.text
    assert editor.content == ""
    assert not (home / "workspace").exists()
    await editor.saved("# New\n")
    assert (home / "workspace/ideas/new.md").read_text() == "# New\n"


async def test_a_new_file_takes_the_place_of_none(visitor: Visitor, files: str, home: Path) -> None:
    editor = await opened(visitor, files, ".&name=note.md")
    (home / "note.md").write_text("the agent's")
    answer = await editor.saved("mine")
    assert "There is a file of that name by now" in answer.text
    assert anyway(answer)
    assert (home / "note.md").read_text() == "the agent's"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "It is no text"),
        (b"a\0b", "It is no text"),
        (b"x" * (EDIT_MAX_BYTES + 1), "up to 1 MB are edited here"),
    ],
)
async def test_what_cannot_be_edited_can_be_fetched(
    visitor: Visitor, files: str, home: Path, content: bytes, words: str
) -> None:
    (home / "data").write_bytes(content)
    editor = await opened(visitor, files, "data")
    assert editor.content is None
    assert words in editor.page.text
    (link,) = {each["href"] for each in Elements(editor.page.text).all("a") if "download" in each}
    assert link
    assert (await visitor.get(link)).content == content


async def test_a_text_may_be_longer_than_other_forms(
    visitor: Visitor, files: str, home: Path
) -> None:
    content = "é\n" * 15_000
    (home / "note.md").write_text(content)
    editor = await opened(visitor, files, "note.md")
    await editor.saved(content + "more")
    assert (home / "note.md").read_text() == content + "more"


@pytest.mark.parametrize("path", [".", "folder", "../x", "/x"])
async def test_what_is_no_file_is_not_edited(
    visitor: Visitor, files: str, home: Path, path: str
) -> None:
    (home / "folder").mkdir()
    assert (await visitor.get(f"{files}/edit?path={path}")).status_code == 400
    form = {"path": path, "content": "x", "opened": "", "anyway": ""}
    answer = await visitor.sent(f"{files}/save", form)
    assert answer.status_code == 400
    assert "notice bad" in answer.text


@pytest.mark.parametrize("form", [{}, {"path": "a"}, {"path": "a", "content": "b"}])
async def test_a_form_that_lacks_something_is_refused(
    visitor: Visitor, files: str, home: Path, form: dict[str, str]
) -> None:
    assert (await visitor.sent(f"{files}/save", form)).status_code == 422
    assert not (home / "a").exists()
