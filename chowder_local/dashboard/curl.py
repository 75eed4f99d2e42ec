"""A model call as a command for a shell, with a variable where its key was (pure)."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import MODEL_KEY_VARIABLES
from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire.formats import wire_format

if TYPE_CHECKING:
    from chowder_local.relay.call_log import LoggedCall

_PLACES = {
    ModelProvider.ANTHROPIC: "https://api.anthropic.com",
    ModelProvider.OPENAI: "https://api.openai.com",
    ModelProvider.GEMINI: "https://generativelanguage.googleapis.com",
}


def curl(call: LoggedCall) -> str:
    """What sends the same body to the provider itself, by the usual address of that.

    Path and body are what an agent has sent, so a shell must find nothing to do in them.
    """
    path = shlex.quote(f"/{call.path.lstrip('/')}")
    if call.provider in set(ModelProvider):
        provider = ModelProvider(call.provider)
        place, headers = _PLACES[provider], _headers(provider)
    else:
        place, headers = f'"${re.sub("[^A-Z0-9]", "_", call.provider.upper())}_URL"', []
    options = [f'-H "{each}"' for each in ("content-type: application/json", *headers)]
    body = shlex.quote(call.request.decode("utf-8", "replace"))
    return " \\\n  ".join([f"curl -sS {place}{path}", *options, f"--data-raw {body}"])


def _headers(provider: ModelProvider) -> list[str]:
    name, value = wire_format(provider).credential(f"${MODEL_KEY_VARIABLES[provider]}")
    needed = ["anthropic-version: 2023-06-01"] if provider is ModelProvider.ANTHROPIC else []
    return [f"{name}: {value}", *needed]
