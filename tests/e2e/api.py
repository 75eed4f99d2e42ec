"""The API as a client with plain HTTP sees it, with the few steps that every test takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Generator

CLAUDE = "claude-sonnet-4-20250514"
BOOT_TIMEOUT_S = 240.0
"""Longer than the server's own limit, which says why a boot failed."""
TURN_TIMEOUT_S = 60.0


class Api(httpx.Client):
    """An HTTP client of `/v1` with one organization's key."""

    def __init__(self, base_url: str, key: str) -> None:
        super().__init__(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TURN_TIMEOUT_S,
            trust_env=False,
        )

    def created(self, name: str, **more: Any) -> str:
        """The id of a new instance."""
        answer = self.post("instances", json={"name": name, **more})
        assert answer.status_code == 201, answer.text
        instance_id: str = answer.json()["id"]
        return instance_id

    def until(self, instance_id: str, status: str) -> dict[str, Any]:
        """The instance once it has a status; fails at once if it ends up in another final one."""

        def look() -> dict[str, Any] | None:
            instance: dict[str, Any] = self.get(f"instances/{instance_id}").json()
            if instance["status"] == status:
                return instance
            assert instance["status"] not in {"error", "terminated"}, instance
            return None

        return eventually(look, f"{instance_id} is {status}", BOOT_TIMEOUT_S)

    def stop(self, instance_id: str) -> None:
        """Stops a running instance."""
        answer = self.post(f"instances/{instance_id}/stop")
        assert (answer.status_code, answer.json().get("status")) == (200, "stopped"), answer.text

    def start(self, instance_id: str) -> None:
        """Starts a stopped instance."""
        answer = self.post(f"instances/{instance_id}/start")
        assert (answer.status_code, answer.json().get("status")) == (200, "running"), answer.text

    def status(self, instance_id: str) -> str:
        """The instance's status now."""
        status: str = self.get(f"instances/{instance_id}/status").json()["status"]
        return status

    def scoped_key(self, instance_id: str, *permissions: str) -> dict[str, Any]:
        """A new key for that agent."""
        body = {"name": "page", "instance_ids": [instance_id], "permissions": list(permissions)}
        answer = self.post("keys", json=body)
        assert answer.status_code == 201, answer.text
        key: dict[str, Any] = answer.json()
        return key

    def message(
        self, instance_id: str, text: str, *, model: str = CLAUDE, session: str | None = None
    ) -> httpx.Response:
        """The answer to a message, whatever it is."""
        body = {"model": model, "input": text}
        return self.post(responses_path(instance_id, session), json=body)

    def say(
        self, instance_id: str, text: str, *, model: str = CLAUDE, session: str | None = None
    ) -> str:
        """What the agent says to a message."""
        answer = self.message(instance_id, text, model=model, session=session)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        return text_of(answer.json())

    def events(
        self, instance_id: str, text: str, *, model: str = CLAUDE, session: str | None = None
    ) -> Generator[dict[str, Any]]:
        """The events of a streamed answer, up to `[DONE]`."""
        body = {"model": model, "input": text, "stream": True}
        path = responses_path(instance_id, session)
        with self.stream("POST", path, json=body) as answer:
            if not answer.is_success:
                answer.read()
            assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
            for line in answer.iter_lines():
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return
                if data != line:
                    yield json.loads(data)
        raise AssertionError("the stream ended without [DONE]")


def responses_path(instance_id: str, session: str | None = None) -> str:
    """Where messages go, to the main conversation or to a named one."""
    if session is None:
        return f"instances/{instance_id}/responses"
    return f"instances/{instance_id}/session/{quote(session, safe='')}/responses"


def text_of(response: dict[str, Any]) -> str:
    """The text of a Responses resource."""
    assert response["status"] == "completed", response
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )
