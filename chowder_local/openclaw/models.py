"""Which provider a model id belongs to, and what OpenClaw calls the two together (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import OTHER_PROVIDERS, ModelProvider
from chowder_local.core.errors.requests import ModelUnknown
from chowder_local.core.model_endpoints import LONGEST_ANSWER_TOKENS

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
"""What an agent is told of from the start; it takes any other model as well."""

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
"""How long an answer may be, by the beginning of a model's id; the first that fits counts."""
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
        """What OpenClaw is told, which leads its call to the relay."""
        if self.provider in set(ModelProvider):
            return f"{provider_id(self.provider)}/{self.model}"
        return f"{provider_id(OTHER_PROVIDERS)}/{self.provider}/{self.model}"


def provider_id(provider: str) -> str:
    """The provider's name inside a sandbox. Not the usual one: OpenClaw rewrites or
    refuses models of the names it knows, and adds calls of its own to them.
    """
    return f"chowder-{provider}"


def route(model: str, named: Collection[str] = ()) -> ModelRoute:
    """Where a client's model id leads; `named` are other providers. Raises ModelUnknown."""
    name, slash, rest = model.partition("/")
    if slash and rest and (provider := _NAMES.get(name)):
        return ModelRoute(provider, rest)
    if rest and name in named:
        return ModelRoute(name, rest)
    for prefix, provider in _PREFIXES.items():
        if model.startswith(prefix):
            return ModelRoute(provider, model)
    raise ModelUnknown(model, named)


def vision_patch(config: Mapping[str, Any], route: ModelRoute) -> dict[str, Any] | None:
    """What has to change in an agent's configuration for a model to be shown images, if anything.

    OpenClaw takes a model of which it is told nothing for one that reads text alone.
    """
    provider = provider_id(route.provider)
    known = _providers(config).get(provider, {}).get("models") or []
    if any(model.get("id") == route.model and "image" in model.get("input", []) for model in known):
        return None
    others = [model for model in known if model.get("id") != route.model]
    return {"models": {"providers": {provider: {"models": [*others, model_entry(route.model)]}}}}


def registration_patch(
    config: Mapping[str, Any], route: ModelRoute, *, endpoint: Endpoint, relay_token: str
) -> dict[str, Any] | None:
    """The same for a model of a named provider, of which OpenClaw also has to know how much it
    takes: the tokens that it counts on by itself are more than those of most local models.
    """
    name = provider_id(OTHER_PROVIDERS)
    providers = _providers(config)
    known = providers.get(name, {}).get("models") or []
    tokens = endpoint.context_tokens(route.model)
    entry = {
        "id": f"{route.provider}/{route.model}",
        "name": route.model,
        "input": ["text", "image"],
        "contextWindow": tokens,
        "maxTokens": min(LONGEST_ANSWER_TOKENS, tokens // 4),
    }
    if any(entry.items() <= model.items() for model in known):
        return None
    others = [model for model in known if model.get("id") != entry["id"]]
    change: dict[str, Any] = {"models": [*others, entry]}
    if name not in providers:
        # An agent that was made before there were such.
        beside = str(providers.get(provider_id(ModelProvider.OPENAI), {}).get("baseUrl", ""))
        relay_url = beside.removesuffix(f"/{ModelProvider.OPENAI}")
        change |= provider_entry(OTHER_PROVIDERS, relay_url, relay_token)
    return {"models": {"providers": {name: change}}}


def provider_entry(provider: str, relay_url: str, relay_token: str) -> dict[str, Any]:
    """What OpenClaw is told of a provider, but for its models."""
    return {
        "api": _APIS.get(provider, "openai-completions"),
        "baseUrl": f"{relay_url}/{provider}",
        # And no `timeoutSeconds`: OpenClaw would keep a megabyte of each call for so
        # long, and its heap would be full after some hundred turns.
        "apiKey": relay_token,
    }


def model_entry(model: str) -> dict[str, Any]:
    """What OpenClaw is told of a model; else it takes it for one that reads text alone."""
    longest = (size for start, size in _MAX_TOKENS.items() if model.startswith(start))
    return {
        "id": model,
        "name": model,
        "input": ["text", "image"],
        # Its own limit is one that cuts longer answers off.
        "maxTokens": next(longest, _USUAL_MAX_TOKENS),
    }


def _providers(config: Mapping[str, Any]) -> dict[str, Any]:
    providers: dict[str, Any] = (config.get("models") or {}).get("providers", {})
    return providers
