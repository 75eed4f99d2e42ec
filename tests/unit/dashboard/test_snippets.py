"""What is pasted; that it runs is shown where there are agents to talk to."""

from __future__ import annotations

from datetime import UTC, datetime

from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
)
from chowder_local.dashboard.snippets import model_of, snippets

NOW = datetime(2026, 5, 4, tzinfo=UTC)
AGENT = Instance(
    InstanceId("instance-1"),
    OrganizationId("kitchen"),
    "'; rm -rf ~; '",
    InstanceStatus.RUNNING,
    ModelProvider.OPENAI,
    SandboxId("chowder-1"),
    NOW,
    NOW,
)


def test_an_agent_is_greeted_with_a_model_of_its_own_provider() -> None:
    for each in snippets(AGENT):
        assert "/instances/instance-1/responses" in each.text
        assert "gpt-4o" in each.text
        # Names are anybody's words, and what is pasted into a shell is no place for them.
        assert "rm -rf" not in each.text


def test_without_one_the_first_is_made() -> None:
    for each in snippets(None):
        assert "my-first-agent" in each.text
        assert "/responses" not in each.text


def test_every_provider_has_a_model() -> None:
    assert all(model_of(each) for each in ModelProvider)


def test_python_is_python() -> None:
    (python,) = [each.text for each in snippets(AGENT) if each.id == "python"]
    compile(python, "snippet", "exec")
