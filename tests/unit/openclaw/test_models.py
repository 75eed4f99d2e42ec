"""Which provider a model id leads to."""

import pytest

from chowder_local.domain import ModelProvider
from chowder_local.errors import ModelUnknown
from chowder_local.openclaw.models import DEFAULT_MODELS, ModelRoute, provider_id, route

ANTHROPIC, OPENAI, GEMINI = ModelProvider


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-sonnet-4-20250514", ANTHROPIC),
        ("gpt-4o", OPENAI),
        ("gpt-4o-mini", OPENAI),
        ("chatgpt-4o-latest", OPENAI),
        ("o1", OPENAI),
        ("o1-preview", OPENAI),
        ("o3-mini", OPENAI),
        ("o4-mini", OPENAI),
        ("gemini-2.0-flash", GEMINI),
    ],
)
def test_a_models_name_tells_its_provider(model: str, provider: ModelProvider) -> None:
    assert route(model) == ModelRoute(provider, model)


@pytest.mark.parametrize(
    ("asked", "provider", "model"),
    [
        ("anthropic/claude-x", ANTHROPIC, "claude-x"),
        ("openai/ft:gpt-4o:acme/v1", OPENAI, "ft:gpt-4o:acme/v1"),
        ("gemini/learnlm", GEMINI, "learnlm"),
        ("google/gemma-3", GEMINI, "gemma-3"),
        ("openai/claude-like", OPENAI, "claude-like"),
    ],
)
def test_a_named_provider_wins_over_what_the_models_name_says(
    asked: str, provider: ModelProvider, model: str
) -> None:
    assert route(asked) == ModelRoute(provider, model)


@pytest.mark.parametrize(
    "model", ["llama3", "", "/", "anthropic/", "nosuch/model", "Claude-3", " gpt-4o", "claude"]
)
def test_a_model_of_no_known_provider_is_refused_with_what_is_understood(model: str) -> None:
    with pytest.raises(ModelUnknown, match=r"claude-\*.*gpt-\*.*gemini-\*") as refused:
        route(model)
    assert repr(model) in str(refused.value)


def test_openclaw_is_told_a_provider_that_it_has_no_ideas_of_its_own_about() -> None:
    told = {provider: route(model).openclaw_model for provider, model in DEFAULT_MODELS.items()}
    assert told == {
        ANTHROPIC: "chowder-anthropic/claude-sonnet-4-20250514",
        OPENAI: "chowder-openai/gpt-4o",
        GEMINI: "chowder-gemini/gemini-2.0-flash",
    }
    assert len({provider_id(provider) for provider in ModelProvider}) == len(ModelProvider)
