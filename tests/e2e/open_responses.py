"""Messages as programs send them that know only the published schema, which judges the answers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from openresponses_types import types as spec

if TYPE_CHECKING:
    from tests.e2e.api import Api

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            }
        },
        "required": ["location"],
    },
}
CALL = ("get_weather", {"location": "San Francisco"})


def message(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def asks_for_weather(*, stream: bool) -> dict[str, Any]:
    question = "What's the weather like in San Francisco?"
    return {"input": [message("user", question)], "tools": [WEATHER], "stream": stream}


def sent(api: Api, path: str, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The answer, and the events that it came in, each judged by its schema."""
    answer = api.post(path, json={"model": "gpt-4o-mini", "stream": False} | asked)
    assert answer.status_code == 200, answer.text
    events = []
    if asked.get("stream"):
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
        events = [json.loads(line) for line in lines if line.startswith("{")]
        for event in events:
            name = re.sub(r"[._]?([a-z]+)", lambda found: found[1].title(), event["type"])
            getattr(spec, f"{name}StreamingEvent").model_validate(event)
    response: dict[str, Any] = events[-1]["response"] if events else answer.json()
    spec.ResponseResource.model_validate(response)
    return response, events


def calls_in(response: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (item["name"], json.loads(item["arguments"]))
        for item in response["output"]
        if item["type"] == "function_call"
    ]
