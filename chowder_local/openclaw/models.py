"""Which provider a model id belongs to, and what OpenClaw calls the two together (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.domain import ModelProvider
from chowder_local.errors.requests import ModelUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MODELS = {
    ModelProvider.ANTHROPIC: "claude-sonnet-4-20250514",
    ModelProvider.OPENAI: "gpt-4o",
    ModelProvider.GEMINI: "gemini-2.0-flash",
}

KNOWN_MODELS = {
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
    """A model at its provider."""

    provider: ModelProvider
    model: str

    @property
    def openclaw_model(self) -> str:
        """What OpenClaw is told, which leads its call to the relay."""
        return f"{provider_id(self.provider)}/{self.model}"


def provider_id(provider: ModelProvider) -> str:
    """The provider's name inside a sandbox. Not the usual one: OpenClaw rewrites or
    refuses models of the names it knows, and adds calls of its own to them.
    """
    return f"chowder-{provider}"


def route(model: str) -> ModelRoute:
    """Where a client's model id leads. Raises ModelUnknown."""
    name, slash, rest = model.partition("/")
    if slash and rest and (provider := _NAMES.get(name)):
        return ModelRoute(provider, rest)
    for prefix, provider in _PREFIXES.items():
        if model.startswith(prefix):
            return ModelRoute(provider, model)
    raise ModelUnknown(model)


def sight_patch(config: Mapping[str, Any], route: ModelRoute) -> dict[str, Any] | None:
    """What has to change in an agent's configuration for a model to be shown images, if anything.

    OpenClaw takes a model of which it is told nothing for one that reads text alone.
    """
    provider = provider_id(route.provider)
    known = (config.get("models") or {}).get("providers", {}).get(provider, {}).get("models") or []
    if any(model.get("id") == route.model and "image" in model.get("input", []) for model in known):
        return None
    others = [model for model in known if model.get("id") != route.model]
    return {"models": {"providers": {provider: {"models": [*others, described(route.model)]}}}}


def described(model: str) -> dict[str, Any]:
    """What OpenClaw is told of a model; else it takes it for one that reads text alone."""
    longest = (size for start, size in _MAX_TOKENS.items() if model.startswith(start))
    return {
        "id": model,
        "name": model,
        "input": ["text", "image"],
        # Its own limit is one that cuts longer answers off.
        "maxTokens": next(longest, _USUAL_MAX_TOKENS),
    }
