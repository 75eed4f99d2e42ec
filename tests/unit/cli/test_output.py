"""The output of commands for people and scripts."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from chowder_local import cli
from chowder_local.cli.output import note, say, show_json, show_table, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_results_go_to_stdout_and_remarks_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("result")
    note("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")


def test_json_keeps_non_ascii_letters(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"name": "Müsli"})
    written = capsys.readouterr().out
    assert "Müsli" in written
    assert json.loads(written) == {"name": "Müsli"}


def test_a_table_shows_names_as_they_are_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("NAME", "ID"), [("[b]a\\[/b]", "x" * 100), ("[red]", "y")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "ID"]
    assert lines[1].split() == ["[b]a\\[/b]", "x" * 100]
    assert lines[2].split() == ["[red]", "y"]


def test_waiting_without_a_terminal_prints_each_state_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with waiting("one") as update:
        for message in ("one", "two [b]", "two [b]", "three " + "x" * 200):
            update(message)
    assert capsys.readouterr() == ("", f"one\ntwo [b]\nthree {'x' * 200}\n")


def test_waiting_on_a_terminal_is_one_line_that_keeps_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with waiting("first") as update:
        update("[1/2] RUN [/b] this")
        update("what this prints")
    lines = terminal.getvalue().split("\n")
    assert any(line.rstrip().endswith("[1/2] RUN [/b] this") for line in lines)


def test_a_table_fits_a_narrow_terminal_on_one_line_a_row_with_whole_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    rows = [("0a1b2c3d", "an-agent-with-quite-a-long-name-of-50-characters-xx", "running")] * 2
    headings = ("ID", "NAME", "STATUS", "MODELS", "CREATED")
    show_table(headings, [(*row, "anthropic", "2026-11-24 10:11") for row in rows])
    _, *lines = terminal.getvalue().splitlines()
    assert [len(line) for line in lines] == [60, 60]
    assert lines[0] == "0a1b2c3d  an-agent-wi…  running  anthropic  2026-11-24 10:11"
    # On a terminal that is even narrower, lines are too long rather than unreadable.
    monkeypatch.setenv("COLUMNS", "10")
    show_table(("ID", "NAME"), [("0a1b2c3d-4e5f", "日本語")])
    assert terminal.getvalue().splitlines()[-1] == "0a1b2c3d-4e5f  日 …"


def test_control_characters_are_replaced_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("NAME",), [("a\x1b[31mb\nc",)])
    assert capsys.readouterr().out == "NAME\na\\u001b[31mb\\nc\n"


def test_only_the_module_output_writes_to_the_terminal() -> None:
    writing = re.compile(
        r"click\.(secho|echo|prompt|confirm|progressbar|pause)\b|\bprint\(|sys\.(__)?std(out|err)|Console\("
    )
    modules = Path(cli.__file__).parent.glob("*.py")
    found = {each.name for each in modules if writing.search(each.read_text())}
    assert found == {"output.py"}
