"""A model call as a command."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from chowder_local.dashboard.curl import curl
from chowder_local.relay.call_log import LoggedCall

VARIABLES = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OLLAMA_URL", "X__ID__URL")
HOSTILE = "$(touch /tmp/x) `id` '\"; echo !"


@pytest.mark.parametrize("provider", ["anthropic", "openai", "gemini", "ollama", "x$(id)"])
def test_a_shell_finds_nothing_to_do_in_what_an_agent_sent(provider: str) -> None:
    call = LoggedCall("ex-1", None, None, provider, f"v1/{HOSTILE}", HOSTILE.encode(), None)
    shown = curl(call).replace("curl -sS", "printf '%s\\n'", 1)
    said = subprocess.run(
        ["sh", "-uc", shown], capture_output=True, text=True, check=False,
        env=dict.fromkeys(VARIABLES, "secret"),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].endswith(f"/v1/{HOSTILE}")
    assert lines[-1] == HOSTILE


def test_a_key_is_the_environments_variable() -> None:
    call = LoggedCall("ex-1", None, None, "openai", "v1/responses", b"{}", None)
    assert "authorization: Bearer $OPENAI_API_KEY" in shlex.split(curl(call))
