"""The redaction of secrets."""

from __future__ import annotations

import pytest

from chowder_local.core.secrets import REDACTED, redact, secret_values


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key chd_org_aB3-_x.", f"key {REDACTED}."),
        ('"chd_sk_aB3"', f'"{REDACTED}"'),
        ("sk-proj-abcdefgh12", REDACTED),
        ("Bearer abc.def, more", f"Bearer {REDACTED} more"),
        ("https://me:word@host/v1", f"https://{REDACTED}@host/v1"),
        ("chowder-0123456789ab.abcdefghijklmnop", REDACTED),
        ("sandbox chowder-0123456789ab: ready", "sandbox chowder-0123456789ab: ready"),
        ("a task-force of risk-averse", "a task-force of risk-averse"),
        ("write to me@host", "write to me@host"),
        (f"id eyJ{'a' * 10}.{'b' * 10}.{'c' * 10}", f"id {REDACTED}"),
    ],
)
def test_what_looks_like_a_secret_is_redacted(text: str, left: str) -> None:
    assert redact(text) == left


def test_a_long_text_is_read_once() -> None:
    # A beginning of a token at each word would take hours if each were read to the end.
    text = "eyJ-" * 250_000
    assert redact(text) == text


def test_given_secrets_are_redacted_the_longest_first() -> None:
    assert redact("a planted-long b planted c", ["planted", "planted-long"]) == (
        f"a {REDACTED} b {REDACTED} c"
    )


def test_a_short_value_is_not_redacted() -> None:
    assert redact("a, b, true", ["a", "", "true"]) == "a, b, true"


def test_a_variable_is_secret_by_its_name() -> None:
    env = {"OPENAI_API_KEY": "1", "GH_TOKEN": "2", "DB_PASSWORD": "3", "PATH": "4"}
    assert secret_values(env) == {"1", "2", "3"}
