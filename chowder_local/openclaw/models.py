"""Resolves model ids to providers, and builds OpenClaw's configuration of both (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import OTHER_PROVIDERS, ModelProvider
from chowder_local.core.errors.requests import ModelUnknown
from chowder_local.core.model_endpoints import MAX_ANSWER_TOKENS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from chowder_local.core.model_endpoints import Endpoint

DEFAULT_MODELS = {
    ModelProvider.ANTHROPIC: "claude-sonnet-4-20250514",
    ModelProvider.OPENAI: "gpt-4o",
    ModelProvider.GEMINI: "gemini-2.0-flash",
}

KNOWN_MODELS: Mapping[str, tuple[str, ...]] = {
    ModelProvider.ANTHROPIC: ("claude-sonnet-4-20250514",),
    ModelProvider.OPENAI: ("gpt-4o", "gpt-4o-mini"),
    ModelProvider.GEMINI: ("gemini-2.0-flash",),
}
"""Models in every initial configuration; an agent can use any other model, too."""

_PREFIXES = {
    "claude-": ModelProvider.ANTHROPIC,
    "gpt-": ModelProvider.OPENAI,
    "chatgpt-": ModelProvider.OPENAI,
    "o1": ModelProvider.OPENAI,
    "o3": ModelProvider.OPENAI,
    "o4": ModelProvider.OPENAI,
    "gemini-": ModelProvider.GEMINI,
}

_APIS: Mapping[str, str] = {
    ModelProvider.ANTHROPIC: "anthropic-messages",
    ModelProvider.OPENAI: "openai-responses",
    ModelProvider.GEMINI: "google-generative-ai",
}

_MAX_TOKENS = {
    "claude-3-5": 8192,
    "claude-3-7": 64_000,
    "claude-3": 4096,
    "claude": 32_000,
    "gemini-1": 8192,
    "gemini-2.0": 8192,
    "gemini": 65_536,
    "gpt-4-": 4096,
    "gpt-4o": 16_384,
    "chatgpt": 16_384,
}
"""The longest answer by the prefix of a model's id; the first matching prefix counts."""
_USUAL_MAX_TOKENS = 32_768

_NAMES = {
    "anthropic": ModelProvider.ANTHROPIC,
    "openai": ModelProvider.OPENAI,
    "gemini": ModelProvider.GEMINI,
    "google": ModelProvider.GEMINI,
}


@dataclass(frozen=True)
class ModelRoute:
    provider: str
    model: str

    @property
    def openclaw_model(self) -> str:
        """The model's id in OpenClaw, whose provider is the relay."""
        if self.provider in set(ModelProvider):
            return f"{provider_id(self.provider)}/{self.model}"
        return f"{provider_id(OTHER_PROVIDERS)}/{self.provider}/{self.model}"


def provider_id(provider: str) -> str:
    """The provider's id in OpenClaw, which rewrites or refuses models of ids that it knows, and
    makes calls of its own to them.
    """
    return f"chowder-{provider}"


def route(model: str, custom_providers: Collection[str] = ()) -> ModelRoute:
    """The provider and model of a client's model id. Raises ModelUnknown if no provider fits."""
    name, slash, rest = model.partition("/")
    if slash and rest and (provider := _NAMES.get(name)):
        return ModelRoute(provider, rest)
    if rest and name in custom_providers:
        return ModelRoute(name, rest)
    for prefix, provider in _PREFIXES.items():
        if model.startswith(prefix):
            return ModelRoute(provider, model)
    raise ModelUnknown(model, custom_providers)


def vision_patch(config: Mapping[str, Any], route: ModelRoute) -> dict[str, Any] | None:
    """The merge patch that lets a model get images; None if the configuration does already.

    OpenClaw sends only text to a model that the configuration does not describe.
    """
    provider = provider_id(route.provider)
    models = _providers(config).get(provider, {}).get("models") or []
    if any(each.get("id") == route.model and "image" in each.get("input", []) for each in models):
        return None
    others = [model for model in models if model.get("id") != route.model]
    return {"models": {"providers": {provider: {"models": [*others, model_entry(route.model)]}}}}


def registration_patch(
    config: Mapping[str, Any], route: ModelRoute, *, endpoint: Endpoint, relay_token: str
) -> dict[str, Any] | None:
    """The merge patch that registers a custom provider's model; None if it is registered already.
    The context window is in it because OpenClaw's default exceeds that of most local models.
    """
    name = provider_id(OTHER_PROVIDERS)
    providers = _providers(config)
    models = providers.get(name, {}).get("models") or []
    tokens = endpoint.context_tokens(route.model)
    entry = {
        "id": f"{route.provider}/{route.model}",
        "name": route.model,
        "input": ["text", "image"],
        "contextWindow": tokens,
        "maxTokens": min(MAX_ANSWER_TOKENS, tokens // 4),
    }
    if any(entry.items() <= model.items() for model in models):
        return None
    others = [model for model in models if model.get("id") != entry["id"]]
    change: dict[str, Any] = {"models": [*others, entry]}
    if name not in providers:
        # Agents of earlier versions lack this provider; the entry of OpenAI has the relay's URL,
        # too.
        openai_url = str(providers.get(provider_id(ModelProvider.OPENAI), {}).get("baseUrl", ""))
        relay_url = openai_url.removesuffix(f"/{ModelProvider.OPENAI}")
        change |= provider_entry(OTHER_PROVIDERS, relay_url, relay_token)
    return {"models": {"providers": {name: change}}}


def provider_entry(provider: str, relay_url: str, relay_token: str) -> dict[str, Any]:
    """A provider in OpenClaw's configuration, without its models."""
    return {
        "api": _APIS.get(provider, "openai-completions"),
        "baseUrl": f"{relay_url}/{provider}",
        # No `timeoutSeconds`: with it, OpenClaw keeps about 1 MB of each call until the timeout,
        # and its heap is full after about a hundred turns.
        "apiKey": relay_token,
    }


def model_entry(model: str) -> dict[str, Any]:
    """A model in OpenClaw's configuration; without an entry, OpenClaw sends it only text."""
    longest = (size for start, size in _MAX_TOKENS.items() if model.startswith(start))
    return {
        "id": model,
        "name": model,
        "input": ["text", "image"],
        # OpenClaw's default would cut longer answers off.
        "maxTokens": next(longest, _USUAL_MAX_TOKENS),
    }


def _providers(config: Mapping[str, Any]) -> dict[str, Any]:
    providers: dict[str, Any] = (config.get("models") or {}).get("providers", {})
    return providers
