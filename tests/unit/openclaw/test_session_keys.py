"""Session names become OpenClaw's session keys."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from unicodedata import normalize
from urllib.parse import quote, unquote

from hypothesis import given, settings
from hypothesis.strategies import text

from chowder_local.openclaw.session_keys import MAIN_KEY, session_key

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [
    "",
    " ",
    "Main",
    "cron:x",
    "subagent:a",
    "agent:main:main",
    "a/b/../c",
    "café",
    "CAFÉ",
    "名前",
    "🦞",
    "x" * 300,
    "project-alpha",
    "project alpha",
    "line\nbreak",
]


def test_messages_without_a_name_go_to_the_main_conversation() -> None:
    assert session_key(None) == session_key("main") == MAIN_KEY == "agent:main:main"


def test_any_name_becomes_a_key_that_openclaw_leaves_as_it_is() -> None:
    keys = {name: session_key(name) for name in NAMES}
    # Lower-case ASCII of a bounded length, without reserved words.
    left = re.compile(r"agent:main:s-[0-9a-f]{64}")
    assert not {name: key for name, key in keys.items() if not left.fullmatch(key)}


def test_a_name_leads_to_the_same_conversation_every_time() -> None:
    assert session_key("project-alpha") == (
        "agent:main:s-21d123703106994fa0581e31a03015aabdc2720ed243f542e9c220e8fb779d2e"
    )


def test_no_two_names_share_a_conversation_nor_does_one_reach_the_main_one() -> None:
    keys = {session_key(name) for name in NAMES}
    assert len(keys) == len(NAMES)
    assert MAIN_KEY not in keys


VARIANTS: list[Callable[[str], str]] = [
    str, str.lower, str.upper, str.casefold, str.strip, str.title, quote, unquote,
    *(partial(normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")),
    lambda name: f"{name}\0", lambda name: f"{name}/..", lambda name: f"agent:main:{name}",
    session_key,
]  # fmt: skip


@settings(deadline=None, database=None, max_examples=50)
@given(text())
def test_names_that_only_look_alike_have_conversations_of_their_own(name: str) -> None:
    alike = {variant(name) for variant in VARIANTS} - {"main"}
    keys = {session_key(each) for each in alike}
    assert len(keys) == len(alike)
    assert MAIN_KEY not in keys
