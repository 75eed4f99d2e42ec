"""Reading a reply script from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.scripts.files import read_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text",
    [
        "unmatched: offline\nreplies:\n  - match: {text: hi}\n    reply: Hello\n",
        "- match: {text: hi}\n  reply: Hello\n",
        '{"replies": [{"match": {"text": "hi"}, "reply": "Hello"}]}',
    ],
)
def test_yaml_and_json_are_read_with_a_head_and_without(tmp_path: Path, text: str) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text(text)

    (rule,) = read_file(path).replies

    assert (rule.match.text, rule.answers[0].text) == ("hi", "Hello")


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("")

    assert read_file(path).replies == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "are not valid YAML"),
        (b"!!python/object/apply:os.system [ls]", "are not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"rules: []", "rules: No such member"),
        (b"- reply: Hi\n- reply: {error: 7}", r"yaml:2: replies\.1\.reply\.error: "),
        (b"just words", "are invalid"),
    ],
)
def test_problems_are_reported_with_file_and_place(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "replies.yaml"
    path.write_bytes(content)

    with pytest.raises(SettingsInvalid, match=words) as invalid:
        read_file(path)

    assert str(path) in str(invalid.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        read_file(tmp_path / "nowhere.yaml")
