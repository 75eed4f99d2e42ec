"""Secrets are taken out of texts, and nothing else is."""

from __future__ import annotations

import pytest

from chowder_local.cli.bundle import MARK, redact, secret_values


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key chd_org_aB3-_x.", f"key {MARK}."),
        ('"chd_sk_aB3"', f'"{MARK}"'),
        ("sk-proj-abcdefgh12", MARK),
        ("Bearer abc.def, more", f"Bearer {MARK} more"),
        ("https://me:word@host/v1", f"https://{MARK}@host/v1"),
        ("chowder-0123456789ab.abcdefghijklmnop", MARK),
        ("sandbox chowder-0123456789ab: ready", "sandbox chowder-0123456789ab: ready"),
        ("a task-force of risk-averse", "a task-force of risk-averse"),
        ("write to me@host", "write to me@host"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, left: str) -> None:
    assert redact(text) == left


def test_known_secrets_are_taken_out_wherever_they_are_the_longest_first() -> None:
    assert redact("a planted-long b planted c", ["planted", "planted-long"]) == (
        f"a {MARK} b {MARK} c"
    )


def test_a_value_of_a_few_letters_is_no_secret() -> None:
    assert redact("a, b, true", ["a", "", "true"]) == "a, b, true"


def test_a_variable_is_secret_by_its_name() -> None:
    env = {"OPENAI_API_KEY": "1", "GH_TOKEN": "2", "DB_PASSWORD": "3", "PATH": "4"}
    assert secret_values(env) == {"1", "2", "3"}
