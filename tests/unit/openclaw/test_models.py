"""Which provider a model id leads to."""

from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.requests import ModelUnknown
from chowder_local.core.model_endpoints import Endpoint
from chowder_local.openclaw.models import (
    DEFAULT_MODELS,
    ModelRoute,
    provider_id,
    registration_patch,
    route,
    vision_patch,
)

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


KNOWN = {"id": "gpt-4o", "name": "gpt-4o", "input": ["text", "image"], "maxTokens": 16_384}


def config(*models: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"providers": {"chowder-openai": {"models": list(models)}}}}


def test_a_model_is_made_known_as_one_that_sees() -> None:
    assert vision_patch(config(), ModelRoute(OPENAI, "gpt-4o")) == config(KNOWN)
    assert vision_patch({}, ModelRoute(OPENAI, "gpt-4o")) == config(KNOWN)


def test_the_models_that_are_known_stay_known() -> None:
    other = KNOWN | {"id": "gpt-5"}
    assert vision_patch(config(other), ModelRoute(OPENAI, "gpt-4o")) == config(other, KNOWN)


def test_a_model_that_is_known_to_see_needs_nothing() -> None:
    assert vision_patch(config(KNOWN), ModelRoute(OPENAI, "gpt-4o")) is None


def test_a_model_that_is_known_for_text_alone_is_known_better() -> None:
    blind = KNOWN | {"input": ["text"]}
    assert vision_patch(config(blind), ModelRoute(OPENAI, "gpt-4o")) == config(KNOWN)


@pytest.mark.parametrize(
    ("route_", "longest"),
    [
        (ModelRoute(ANTHROPIC, "claude-sonnet-4-20250514"), 32_000),
        (ModelRoute(ANTHROPIC, "claude-3-5-haiku-latest"), 8192),
        (ModelRoute(ANTHROPIC, "claude-3-opus-20240229"), 4096),
        (ModelRoute(GEMINI, "gemini-2.0-flash"), 8192),
        (ModelRoute(GEMINI, "gemini-3-pro"), 65_536),
        (ModelRoute(OPENAI, "gpt-4-turbo"), 4096),
        (ModelRoute(OPENAI, "o3"), 32_768),
    ],
)
def test_an_answer_may_be_as_long_as_the_model_can(route_: ModelRoute, longest: int) -> None:
    patch = vision_patch({}, route_)
    assert patch is not None
    (model,) = patch["models"]["providers"][provider_id(route_.provider)]["models"]
    assert model["maxTokens"] == longest


LAB = Endpoint("lab", "http://lab.example/v1", contexts={"lab": 16_000})
LAB_ROUTE = ModelRoute("lab", "Some/model:8b")
LAB_MODEL = {
    "id": "lab/Some/model:8b",
    "name": "Some/model:8b",
    "input": ["text", "image"],
    "contextWindow": 16_000,
    "maxTokens": 4_000,
}


def others(*models: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"providers": {"chowder-other": {"models": list(models)}}}}


def test_a_named_providers_models_lead_to_it_through_one_of_openclaws() -> None:
    assert route("lab/Some/model:8b", {"lab"}) == LAB_ROUTE
    assert LAB_ROUTE.openclaw_model == "chowder-other/lab/Some/model:8b"
    with pytest.raises(ModelUnknown, match="anthropic, openai, gemini, lab; up --provider"):
        route("lap/model", {"lab"})
    with pytest.raises(ModelUnknown):
        route("lab/", {"lab"})


def test_a_named_providers_model_is_introduced_with_what_it_takes() -> None:
    other = {"id": "lab/other"}
    told = registration_patch(others(other), LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert told == others(other, LAB_MODEL)
    assert registration_patch(others(LAB_MODEL), LAB_ROUTE, endpoint=LAB, relay_token="t") is None


def test_a_context_that_was_changed_since_is_told_anew() -> None:
    before = others({**LAB_MODEL, "contextWindow": 32_768})
    told = registration_patch(before, LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert told == others(LAB_MODEL)


def test_an_agent_that_was_made_before_is_told_of_the_provider_as_well() -> None:
    url = "http://relay.local:2470"
    before = {"models": {"providers": {"chowder-openai": {"baseUrl": f"{url}/openai"}}}}
    told = registration_patch(before, LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert told is not None
    assert told["models"]["providers"]["chowder-other"] == {
        "api": "openai-completions",
        "baseUrl": f"{url}/other",
        "apiKey": "t",
        "models": [LAB_MODEL],
    }
