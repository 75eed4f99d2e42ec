"""Model ids, their providers, and their configuration in OpenClaw."""

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
    ("model_id", "provider", "model"),
    [
        ("anthropic/claude-x", ANTHROPIC, "claude-x"),
        ("openai/ft:gpt-4o:acme/v1", OPENAI, "ft:gpt-4o:acme/v1"),
        ("gemini/learnlm", GEMINI, "learnlm"),
        ("google/gemma-3", GEMINI, "gemma-3"),
        ("openai/claude-like", OPENAI, "claude-like"),
    ],
)
def test_a_custom_provider_precedes_the_models_prefix(
    model_id: str, provider: ModelProvider, model: str
) -> None:
    assert route(model_id) == ModelRoute(provider, model)


@pytest.mark.parametrize(
    "model", ["llama3", "", "/", "anthropic/", "nosuch/model", "Claude-3", " gpt-4o", "claude"]
)
def test_a_model_of_an_unknown_provider_is_refused_with_the_known_forms(model: str) -> None:
    with pytest.raises(ModelUnknown, match=r"claude-\*.*gpt-\*.*gemini-\*") as refused:
        route(model)
    assert repr(model) in str(refused.value)


def test_providers_have_names_that_openclaw_does_not_know() -> None:
    change = {provider: route(model).openclaw_model for provider, model in DEFAULT_MODELS.items()}
    assert change == {
        ANTHROPIC: "chowder-anthropic/claude-sonnet-4-20250514",
        OPENAI: "chowder-openai/gpt-4o",
        GEMINI: "chowder-gemini/gemini-2.0-flash",
    }
    assert len({provider_id(provider) for provider in ModelProvider}) == len(ModelProvider)


KNOWN = {"id": "gpt-4o", "name": "gpt-4o", "input": ["text", "image"], "maxTokens": 16_384}


def config(*models: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"providers": {"chowder-openai": {"models": list(models)}}}}


def test_a_model_is_registered_as_a_vision_model() -> None:
    assert vision_patch(config(), ModelRoute(OPENAI, "gpt-4o")) == config(KNOWN)
    assert vision_patch({}, ModelRoute(OPENAI, "gpt-4o")) == config(KNOWN)


def test_the_models_that_are_known_stay_known() -> None:
    other = KNOWN | {"id": "gpt-5"}
    assert vision_patch(config(other), ModelRoute(OPENAI, "gpt-4o")) == config(other, KNOWN)


def test_a_registered_vision_model_needs_no_patch() -> None:
    assert vision_patch(config(KNOWN), ModelRoute(OPENAI, "gpt-4o")) is None


def test_a_text_only_model_is_replaced_by_a_vision_model() -> None:
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


def test_custom_providers_share_one_provider_in_openclaw() -> None:
    assert route("lab/Some/model:8b", {"lab"}) == LAB_ROUTE
    assert LAB_ROUTE.openclaw_model == "chowder-other/lab/Some/model:8b"
    with pytest.raises(ModelUnknown, match="anthropic, openai, gemini, lab; up --provider"):
        route("lap/model", {"lab"})
    with pytest.raises(ModelUnknown):
        route("lab/", {"lab"})


def test_a_custom_providers_model_is_registered_with_its_context_window() -> None:
    other = {"id": "lab/other"}
    change = registration_patch(others(other), LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert change == others(other, LAB_MODEL)
    assert registration_patch(others(LAB_MODEL), LAB_ROUTE, endpoint=LAB, relay_token="t") is None


def test_a_changed_context_window_is_registered_again() -> None:
    before = others({**LAB_MODEL, "contextWindow": 32_768})
    change = registration_patch(before, LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert change == others(LAB_MODEL)


def test_an_older_agent_gets_the_custom_provider_too() -> None:
    url = "http://relay.local:2470"
    before = {"models": {"providers": {"chowder-openai": {"baseUrl": f"{url}/openai"}}}}
    change = registration_patch(before, LAB_ROUTE, endpoint=LAB, relay_token="t")
    assert change is not None
    assert change["models"]["providers"]["chowder-other"] == {
        "api": "openai-completions",
        "baseUrl": f"{url}/other",
        "apiKey": "t",
        "models": [LAB_MODEL],
    }
