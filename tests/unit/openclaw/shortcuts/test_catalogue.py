"""Which shortcuts fit a release of OpenClaw, by what the image build has seen of it."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw import shortcuts
from chowder_local.openclaw.shortcuts import SHORTCUTS, find_misfits, read_observations, unproved
from chowder_local.openclaw.transcripts import program_output
from tests.scripted.engine import OBSERVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.openclaw.shortcuts import Shortcut

Seen = dict[str, Any]


def misfits_after(change: Callable[[Seen], object]) -> dict[str, str]:
    """What does not fit a release that differs in one point."""
    seen = json.loads(OBSERVATIONS)
    change(seen)
    return dict(find_misfits(read_observations(json.dumps(seen).encode())))


def renamed(name: str, other: str) -> Callable[[Seen], object]:
    def rename(seen: Seen) -> None:
        text = json.dumps(seen)
        assert name in text
        seen |= json.loads(text.replace(name, other))

    return rename


def test_all_fit_the_release_that_was_seen() -> None:
    assert misfits_after(lambda _: None) == {}


@pytest.mark.parametrize(
    ("shortcut", "change"),
    [
        (shortcuts.STATE_TRANSFER, renamed("worker_session_placements", "worker_places")),
        (shortcuts.STATE_TRANSFER, renamed("declaration_key", "declared_as")),
        (shortcuts.STATE_TRANSFER, lambda seen: seen["tables"].update(state=None)),
        (shortcuts.WARM_UP, renamed("run_id", "turn_id")),
        (shortcuts.WARM_UP, lambda seen: seen["tables"].update(conversations=None)),
        (shortcuts.TRANSCRIPTS, renamed("active_message_count", "message_count")),
        (shortcuts.TRANSCRIPTS, lambda seen: seen.update(messages=[])),
        (shortcuts.HIBERNATION, renamed("openclaw-gateway", "openclaw-door")),
        (shortcuts.HIBERNATION, renamed("sourceConfig", "writtenConfig")),
        (shortcuts.HIBERNATION, renamed("heartbeat", "pulse")),
        (shortcuts.HIBERNATION, renamed("declarationKey", "declaredAs")),
        (shortcuts.EXPORTS, renamed("trajectory_", "itinerary_")),
        (shortcuts.EXPORTS, lambda seen: seen["home"].append("keychain")),
        (shortcuts.PROMPT_TEXTS, renamed("Runtime: agent=", "Agent: name=")),
        (shortcuts.PROMPT_TEXTS, renamed("## Tooling", "## Utensils")),
        (shortcuts.PROMPT_TEXTS, renamed("Current message", "Latest message")),
        (shortcuts.PROMPT_TEXTS, renamed("delegated to client", "left to the client")),
        (shortcuts.PROMPT_TEXTS, renamed("Tool:", "Result:")),
        (shortcuts.FAILURE_MARKERS, lambda seen: seen.update(failures=["internal error"])),
    ],
)
def test_what_a_shortcut_relies_on_is_looked_for(
    shortcut: Shortcut, change: Callable[[Seen], object]
) -> None:
    assert misfits_after(change).keys() >= {shortcut.name}


def test_what_the_image_was_built_without_has_the_builds_reason() -> None:
    def note(seen: Seen) -> None:
        seen["unfit"]["flat packages"] = "zod: gone"

    assert misfits_after(note) == {"flat packages": "zod: gone"}


@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_an_image_that_says_nothing_allows_the_server_no_shortcut(content: bytes | None) -> None:
    misfits = find_misfits(read_observations(content))
    assert set(misfits) == {each.name for each in SHORTCUTS if each.misfit is not None}


def test_a_version_that_was_never_tested_is_known_as_such() -> None:
    assert unproved("2026.9.6") == []
    assert unproved("2027.1.1") == list(SHORTCUTS)


def test_no_name_is_used_twice() -> None:
    assert len({each.name for each in SHORTCUTS}) == len(SHORTCUTS)


def test_the_tables_of_transcripts_are_those_that_the_program_reads() -> None:
    program = (resources.files("chowder_local.openclaw.programs") / "transcripts.mjs").read_text()
    read = re.findall(r"(?:FROM|JOIN) ([a-z_]+)", program)
    assert set(read) - {"sqlite_master"} == set(program_output.TABLES)
    named = set(re.findall(r"\b[nwiae]\.([a-z_]+)", program))
    needed = {column for columns in program_output.TABLES.values() for column in columns}
    assert named <= needed | {program_output.OPTIONAL_COLUMN}
