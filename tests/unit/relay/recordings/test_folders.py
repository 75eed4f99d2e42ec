"""A recording in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry
from chowder_local.relay.recordings.folders import last_number, name_of, read, write
from chowder_local.relay.wire.conversation import Conversation, UserMessage

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = Entry(
    asked=Asked.of(ModelProvider.OPENAI, Conversation("gpt/4 o", "", (UserMessage(("Zürich?",)),))),
    answered=AnsweredCall.of(200, "text/event-stream", b"data: 1\n\n"),
)


def test_what_is_written_is_read_in_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "recording"
    paths = [write(folder, number, ENTRY) for number in (2, 1, 10)]
    assert [path.name for path in paths] == [
        "0002-openai-gpt-4-o.json", "0001-openai-gpt-4-o.json", "0010-openai-gpt-4-o.json",
    ]  # fmt: skip
    assert list(read(folder)) == sorted(path.name for path in paths)
    assert set(map(Entry.model_dump_json, read(folder).values())) == {ENTRY.model_dump_json()}


def test_what_comes_next_overwrites_nothing_where_something_was_deleted(tmp_path: Path) -> None:
    assert last_number(tmp_path / "nowhere") == 0
    write(tmp_path, 1, ENTRY).unlink()
    write(tmp_path, 3, ENTRY)
    (tmp_path / "mine.json").write_text("{}")
    assert last_number(tmp_path) == 3


def test_a_file_is_for_people_to_read_and_compare(tmp_path: Path) -> None:
    text = write(tmp_path, 1, ENTRY).read_text()
    assert '"said": "Zürich?"' in text
    assert text.startswith('{\n  "format": 1,\n  "asked": {\n')
    assert "null" not in text
    assert text.endswith("}\n")


def test_a_model_without_letters_has_a_name_all_the_same() -> None:
    nameless = ENTRY.model_copy(update={"asked": ENTRY.asked.model_copy(update={"model": "…"})})
    assert name_of(1, nameless) == "0001-openai-model.json"


@pytest.mark.parametrize(
    ("content", "words"), [("{", "0001.json is no model call"), ("{}", "asked: Field required")]
)
def test_what_is_no_model_call_is_told_with_its_file(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "0001.json").write_text(content)
    with pytest.raises(SettingsInvalid, match=words):
        read(tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "0001.json").mkdir()
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        read(tmp_path)


def test_a_folder_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="up --record"):
        read(tmp_path / "nowhere")
