"""A plain HTTP client of the contract, with waiting for agents."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALL_TIMEOUT_S = 180.0
AGENT_TIMEOUT_S = 300.0
POLL_S = 0.25
MODEL = "claude-sonnet-4-20250514"


class Client(httpx.Client):
    """Calls with one key, and the removal of what they make."""

    def __init__(self, base_url: str, key: str | None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # The slash makes paths relative to the base URL.
        super().__init__(
            base_url=base_url.rstrip("/") + "/", headers=headers, timeout=CALL_TIMEOUT_S
        )
        self._made: list[str] = []

    def with_key(self, key: str | None) -> Client:
        """A client of the same service with another key, or none."""
        return Client(str(self.base_url), key)

    def note(self, path: str) -> None:
        """Notes a path to delete at the end."""
        self._made.append(path)

    def clean_up(self) -> list[str]:
        """Deletes noted paths, the last first; the errors of those that could not be deleted."""
        left = []
        for path in reversed(self._made):
            answer = None
            with suppress(httpx.HTTPError):
                answer = self.delete(path)
            if answer is None or answer.status_code not in (204, 404):
                left.append(path)
        return left

    def created(self, **fields: Any) -> httpx.Response:
        """The answer to the creation of an instance, which is deleted at the end."""
        answer = self.post("instances", json=fields)
        if answer.status_code == 201:
            self.note(f"instances/{answer.json()['id']}")
        return answer

    def status(self, instance_id: str) -> str:
        """The current status of an instance."""
        status: str = self.get(f"instances/{instance_id}/status").json()["status"]
        return status

    def until(self, instance_id: str, *statuses: str) -> str:
        """Waits until an instance has one of the statuses, and returns it."""
        return eventually(
            lambda: next((s for s in [self.status(instance_id)] if s in statuses), None),
            f"{instance_id} is {' or '.join(statuses)}",
        )

    def message(
        self, instance_id: str, session: str | None = None, **fields: Any
    ) -> httpx.Response:
        """The answer to a message."""
        return self.post(responses_path(instance_id, session), json={"model": MODEL, **fields})

    def say(self, instance_id: str, text: str, session: str | None = None, **fields: Any) -> str:
        """The text of the answer to a message."""
        answer = self.message(instance_id, session, input=text, **fields)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:500]}"
        return text_of(answer.json())

    def events(
        self, instance_id: str, text: str, session: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer; fails unless it ends with `[DONE]`."""
        body = {"model": MODEL, "input": text, "stream": True}
        with self.stream("POST", responses_path(instance_id, session), json=body) as answer:
            if answer.status_code != 200:
                answer.read()
            assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:500]}"
            assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream"
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream ended without [DONE]")


def responses_path(instance_id: str, session: str | None = None) -> str:
    """The path for messages to the main or a named session."""
    if session is None:
        return f"instances/{instance_id}/responses"
    return f"instances/{instance_id}/session/{quote(session, safe='')}/responses"


def text_of(response: dict[str, Any]) -> str:
    """The text of a Responses resource."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )


def eventually(look: Callable[[], str | None], what: str) -> str:
    """The first result of `look` that is not None; fails with `what` at the deadline."""
    deadline_s = time.monotonic() + AGENT_TIMEOUT_S
    while (found := look()) is None:
        assert time.monotonic() < deadline_s, f"not within {AGENT_TIMEOUT_S:g} s: {what}"
        time.sleep(POLL_S)
    return found
