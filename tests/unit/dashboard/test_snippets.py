"""Commands to copy; tests with real agents run them."""

from __future__ import annotations

import shlex
import subprocess
from datetime import UTC, datetime

import pytest

from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
)
from chowder_local.dashboard.model_calls import model_of, provider_curl, snippets
from chowder_local.relay.call_log import ModelCall

VARIABLES = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OLLAMA_URL", "X__ID__URL")
HOSTILE = "$(touch /tmp/x) `id` '\"; echo !"
NOW = datetime(2026, 5, 4, tzinfo=UTC)
AGENT = Instance(
    InstanceId("instance-1"),
    OrganizationId("kitchen"),
    "'; rm -rf ~; '",
    InstanceStatus.RUNNING,
    SandboxId("chowder-1"),
    NOW,
    NOW,
    ModelProvider.OPENAI,
)


def test_the_message_uses_a_model_of_the_agents_provider() -> None:
    for each in snippets(AGENT):
        assert "/instances/instance-1/responses" in each.text
        assert "gpt-4o" in each.text
        # Anybody may choose a name, so no command for a shell contains one.
        assert "rm -rf" not in each.text


def test_without_an_agent_the_snippets_create_one() -> None:
    for each in snippets(None):
        assert "my-first-agent" in each.text
        assert "/responses" not in each.text


def test_every_provider_has_a_model() -> None:
    assert all(model_of(each) for each in ModelProvider)


def test_the_python_snippet_compiles() -> None:
    (python,) = [each.text for each in snippets(AGENT) if each.id == "python"]
    compile(python, "snippet", "exec")


@pytest.mark.parametrize("provider", ["anthropic", "openai", "gemini", "ollama", "x$(id)"])
def test_the_curl_command_quotes_what_an_agent_sent(provider: str) -> None:
    call = ModelCall("ex-1", None, None, provider, f"v1/{HOSTILE}", HOSTILE.encode(), None)
    command = provider_curl(call).replace("curl -sS", "printf '%s\\n'", 1)
    result = subprocess.run(
        ["sh", "-uc", command], capture_output=True, text=True, check=False,
        env=dict.fromkeys(VARIABLES, "secret"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].endswith(f"/v1/{HOSTILE}")
    assert lines[-1] == HOSTILE


def test_the_curl_command_reads_the_key_from_the_environment() -> None:
    call = ModelCall("ex-1", None, None, "openai", "v1/responses", b"{}", None)
    assert "authorization: Bearer $OPENAI_API_KEY" in shlex.split(provider_curl(call))
