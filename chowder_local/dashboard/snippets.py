"""What to paste into a shell, Python or JavaScript to talk with an agent here; it runs as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, ModelProvider

MODELS = {
    "anthropic": "claude-sonnet-4-20250514",
    "openai": "gpt-4o",
    "gemini": "gemini-2.5-flash",
}
GREETING = "Hey! Who are you and what can you do?"


@dataclass(frozen=True)
class Snippet:
    """Text to copy; `id` is for the page's own use."""

    id: str
    title: str
    text: str


def snippets(instance: Instance | None) -> list[Snippet]:
    """For an agent that runs, or else for making the first one.

    The key is in none of them: it comes from the environment, where `chowder-local env` puts it.
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
    """A model to begin with, of who made the agent's own."""
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
