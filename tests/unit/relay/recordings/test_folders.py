"""A recording in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.recordings import (
    RecordedAnswer,
    RecordedCall,
    RecordedRequest,
    file_name,
    last_number,
    read,
    write,
)
from chowder_local.relay.wire.conversation import Conversation, UserMessage

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = RecordedCall(
    asked=RecordedRequest.from_conversation(
        ModelProvider.OPENAI, Conversation("gpt/4 o", "", (UserMessage(("Zürich?",)),))
    ),
    answered=RecordedAnswer.from_body(200, "text/event-stream", b"data: 1\n\n"),
)


def test_entries_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "recording"
    paths = [write(folder, number, ENTRY) for number in (2, 1, 10)]
    assert [path.name for path in paths] == [
        "0002-openai-gpt-4-o.json", "0001-openai-gpt-4-o.json", "0010-openai-gpt-4-o.json",
    ]  # fmt: skip
    assert list(read(folder)) == sorted(path.name for path in paths)
    assert set(map(RecordedCall.model_dump_json, read(folder).values())) == {
        ENTRY.model_dump_json()
    }


def test_the_next_number_follows_the_highest_one_after_a_deletion(tmp_path: Path) -> None:
    assert last_number(tmp_path / "nowhere") == 0
    write(tmp_path, 1, ENTRY).unlink()
    write(tmp_path, 3, ENTRY)
    (tmp_path / "mine.json").write_text("{}")
    assert last_number(tmp_path) == 3


def test_a_file_is_indented_json_without_nulls(tmp_path: Path) -> None:
    text = write(tmp_path, 1, ENTRY).read_text()
    assert '"said": "Zürich?"' in text
    assert text.startswith('{\n  "format": 1,\n  "asked": {\n')
    assert "null" not in text
    assert text.endswith("}\n")


def test_a_model_without_letters_gets_a_placeholder_name() -> None:
    nameless = ENTRY.model_copy(update={"asked": ENTRY.asked.model_copy(update={"model": "…"})})
    assert file_name(1, nameless) == "0001-openai-model.json"


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "0001.json is not a recorded model call"), ("{}", "asked: Field required")],
)
def test_an_invalid_file_is_reported_by_name(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "0001.json").write_text(content)
    with pytest.raises(SettingsInvalid, match=words):
        read(tmp_path)


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "0001.json").mkdir()
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        read(tmp_path)


def test_a_missing_folder_is_reported_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="up --record"):
        read(tmp_path / "nowhere")
