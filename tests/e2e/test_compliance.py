"""The compliance suite of Open Responses, against an agent that has only just booted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.api import Api, responses_path
from tests.e2e.open_responses import CALL, asks_for_weather, calls_in, message, sent

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
COMPLIANCE: list[dict[str, Any]] = [
    {"input": [message("user", "Say hello in exactly 3 words.")]},
    {"input": [message("user", "Count from 1 to 5.")], "stream": True},
    {
        "input": [
            message("system", "You are a pirate. Always respond in pirate speak."),
            message("user", "Say hello."),
        ]
    },
    asks_for_weather(stream=False),
    asks_for_weather(stream=True),
    {
        "input": [
            message(
                "user",
                [
                    {
                        "type": "input_text",
                        "text": "What do you see in this image? Answer in one sentence.",
                    },
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                ],
            )
        ]
    },
    {
        "input": [
            message("user", "My name is Alice."),
            message("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
            message("user", "What is my name?"),
        ]
    },
]
"""What the compliance suite of Open Responses sends, all at once."""


# Seven first turns at once.
def test_it_passes_on_a_fresh_agent_without_egress(own_server: ServerProcess) -> None:
    with Api(own_server.base_url, own_server.key) as api:
        fresh = api.created("fresh")
        local = f"{str(api.base_url).replace('/v1/', '/local/')}instances/{fresh}"
        changed = api.patch(local, json={"egress": "off"})
        assert changed.status_code == 200, changed.text
        api.until(fresh, "running")
        path = responses_path(fresh)
        with ThreadPoolExecutor(len(COMPLIANCE)) as pool:
            answers = list(pool.map(lambda asked: sent(api, path, **asked), COMPLIANCE))
        assert api.get(local).json()["egress_in_force"] == "off"
        assert api.delete(f"instances/{fresh}").status_code == 204
    for response, _ in answers:
        assert response["status"] == "completed", response
        assert response["output"]
    (plain, _), (streamed, events) = answers[3:5]
    assert calls_in(plain) == calls_in(streamed) == [CALL]
    kinds = [event["type"] for event in events if event.get("item", {}).get("type") != "message"]
    for kind in ("output_item.added", "function_call_arguments.delta",
                 "function_call_arguments.done", "output_item.done"):  # fmt: skip
        assert f"response.{kind}" in kinds
