"""Commands to copy: calls of the API, and a model call to its provider (pure)."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import MODEL_KEY_VARIABLES
from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import LoggedCall

MODELS = {
    "anthropic": "claude-sonnet-4-20250514",
    "openai": "gpt-4o",
    "gemini": "gemini-2.5-flash",
}
PROVIDER_URLS = {
    ModelProvider.ANTHROPIC: "https://api.anthropic.com",
    ModelProvider.OPENAI: "https://api.openai.com",
    ModelProvider.GEMINI: "https://generativelanguage.googleapis.com",
}
GREETING = "Hey! Who are you and what can you do?"


@dataclass(frozen=True)
class Snippet:
    """Text to copy; `id` is the HTML element's."""

    id: str
    title: str
    text: str


def snippets(instance: Instance | None) -> list[Snippet]:
    """Commands that send a message to a running agent, or create the first instance.

    They read the key from the environment, as `chowder-local env` sets it.
    """
    if instance is None:
        path, body = "", {"name": "my-first-agent"}
    else:
        path = f"/{instance.id}/responses"
        body = {"model": model_of(instance.model_provider), "input": GREETING}
    return [
        Snippet("curl", "curl", _curl(path, body)),
        Snippet("python", "Python", _python(path, body)),
        Snippet("javascript", "JavaScript", _javascript(path, body)),
    ]


def model_of(provider: ModelProvider) -> str:
    """The provider's default model on the dashboard."""
    return MODELS[provider.value]


def _curl(path: str, body: dict[str, str]) -> str:
    return (
        f'curl -s "$CHOWDER_BASE_URL/instances{path}" \\\n'
        '  -H "Authorization: Bearer $CHOWDER_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{json.dumps(body)}'"
    )


def _python(path: str, body: dict[str, str]) -> str:
    return f"""import json, os, urllib.request

request = urllib.request.Request(
    os.environ["CHOWDER_BASE_URL"] + "/instances{path}",
    json.dumps({json.dumps(body)}).encode(),
    {{
        "Authorization": "Bearer " + os.environ["CHOWDER_KEY"],
        "Content-Type": "application/json",
    }},
)
print(json.dumps(json.load(urllib.request.urlopen(request)), indent=2))"""


def _javascript(path: str, body: dict[str, str]) -> str:
    return f"""const {{ CHOWDER_BASE_URL, CHOWDER_KEY }} = process.env;
const answer = await fetch(`${{CHOWDER_BASE_URL}}/instances{path}`, {{
  method: "POST",
  headers: {{ Authorization: `Bearer ${{CHOWDER_KEY}}`, "Content-Type": "application/json" }},
  body: JSON.stringify({json.dumps(body)}),
}});
console.log(JSON.stringify(await answer.json(), null, 2));"""


def provider_curl(call: LoggedCall) -> str:
    """A curl command that sends a model call's body to its provider.

    Path and body come from an agent, so they are quoted for the shell; the key is a variable.
    """
    path = shlex.quote(f"/{call.path.lstrip('/')}")
    if call.provider in set(ModelProvider):
        provider = ModelProvider(call.provider)
        url, headers = PROVIDER_URLS[provider], _provider_headers(provider)
    else:
        url, headers = f'"${re.sub("[^A-Z0-9]", "_", call.provider.upper())}_URL"', []
    options = [f'-H "{each}"' for each in ("content-type: application/json", *headers)]
    body = shlex.quote(call.request.decode("utf-8", "replace"))
    return " \\\n  ".join([f"curl -sS {url}{path}", *options, f"--data-raw {body}"])


def _provider_headers(provider: ModelProvider) -> list[str]:
    name, value = wire_format(provider).credential(f"${MODEL_KEY_VARIABLES[provider]}")
    others = ["anthropic-version: 2023-06-01"] if provider is ModelProvider.ANTHROPIC else []
    return [f"{name}: {value}", *others]
