"""A few bytes of YAML from outside cannot exhaust the time or memory of who reads them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.untrusted_yaml import YamlInvalid, compose, construct

if TYPE_CHECKING:
    from pathlib import Path

# The limits are a hundred times what is needed.
READERS = """
import pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1024**3, 1024**3))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.scripts import files
from chowder_local.seeding import source_locations

for file in pathlib.Path(sys.argv[1]).iterdir():
    for read in (files.read_file, source_locations.read):
        try:
            read(file)
        except SettingsInvalid:
            continue
        print(f"{read.__module__} takes {file.name}")
"""


def doubled(first: str, each: str, more: str = "") -> str:
    """Names of which each stands for nine of the one before, ten times in a row."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 11):
        aliases = ",".join([f"*a{number - 1}"] * 9)
        lines.append(f"a{number}: &a{number} {each.format(aliases)}")
    return "\n".join([*lines, more])


BOMBS = {
    "aliases": doubled("[x]", "[{}]"),
    "aliases as a name": doubled("[x]", "[{}]", "? *a10\n: x"),
    "merges": doubled("{x: y}", "{{<<: [{}]}}"),
    "a long text many times": f"a: &a {'x' * 60_000}\nb: [{'*a,' * 1000}]",
    "itself": "a: &a [*a, *a]",
    "merged with itself": "a: &a {<<: *a}",
    "levels in a line": "[" * 400 + "]" * 400,
    "levels of names": "a: " + "{b: " * 200 + "1" + "}" * 200,
    "a number in base 60": "a: 1" + ":1" * 60_000,
    "a fraction in base 60": "a: 1" + ":1" * 60_000 + ".5",
    "digits": "a: " + "9" * 5000,
    "a hexadecimal number": "a: 0x" + "f" * 60_000,
    "a day that is none": "a: 2026-99-99",
    "an infinite number": "a: .inf",
    "a number that is none": "a: .nan",
    "a number that is too large": "a: 1.0e+999",
    "half of a character": 'a: "\\ud800"',
    "a long text": "a: " + "b" * 4_000_000,
}


def test_every_reader_refuses_what_stands_for_too_much(tmp_path: Path) -> None:
    for name, bomb in BOMBS.items():
        (tmp_path / f"{name}.yaml").write_text(bomb)
    (tmp_path / "half of a character.json").write_text('{"a": "\\ud800"}')
    command = [sys.executable, "-c", READERS, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_aliases_and_merges_within_the_bounds_are_read() -> None:
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2.5}"
    value = construct(compose(text))
    assert value == {"a": {"x": 1}, "b": [{"x": 1}] * 2, "c": {"x": 1, "y": 2.5}}
    assert construct(compose("")) is None


def test_a_pair_of_escapes_is_one_character_as_in_json() -> None:
    assert construct(compose('{"\\ud83e\\udd9e": "a"}')) == {"\U0001f99e": "a"}


def test_a_refusal_has_the_line() -> None:
    for text in ("a: 1\nb: [", "a: 1\nb: " + "9" * 200):
        with pytest.raises(YamlInvalid) as refused:
            compose(text)
        assert refused.value.line == 2
