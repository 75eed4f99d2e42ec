"""Which provider a model id belongs to, and what OpenClaw calls the two together (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from chowder_local.domain import ModelProvider
from chowder_local.errors import ModelUnknown

DEFAULT_MODELS = {
    ModelProvider.ANTHROPIC: "claude-sonnet-4-20250514",
    ModelProvider.OPENAI: "gpt-4o",
    ModelProvider.GEMINI: "gemini-2.0-flash",
}

_PREFIXES = {
    "claude-": ModelProvider.ANTHROPIC,
    "gpt-": ModelProvider.OPENAI,
    "chatgpt-": ModelProvider.OPENAI,
    "o1": ModelProvider.OPENAI,
    "o3": ModelProvider.OPENAI,
    "o4": ModelProvider.OPENAI,
    "gemini-": ModelProvider.GEMINI,
}

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
