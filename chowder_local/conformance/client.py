"""A plain HTTP client of the contract, with waiting for agents, and harmless requests."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from chowder_local.conformance import published
from chowder_local.conformance.drift import OPERATION, answered, refused, require, require_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chowder_local.conformance.published import PublishedCall

CALL_TIMEOUT_S = 180.0
AGENT_TIMEOUT_S = 300.0
POLL_S = 0.25
KEEP_ALIVE_S = 1.0
"""Less than servers keep an idle connection, so that none is reset as it is used again."""
MODEL = "claude-sonnet-4-20250514"
NOWHERE = str(uuid.UUID(int=0))
ENDS = ("stopInstance", "startInstance", "deleteInstance")
"""Calls that change something without any body, if they are allowed and of something there."""
BODIES: dict[str, Any] = {"updateSkill": {"enabled": "neither"}}
"""What changes nothing where an empty object could."""


class ContractClient(httpx.Client):
    """Calls with one key, and the removal of what they make."""

    def __init__(
        self, base_url: str, key: str | None, operations: list[tuple[str, bool]] | None = None
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # The slash makes paths relative to the base URL.
        super().__init__(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            timeout=CALL_TIMEOUT_S,
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_S),
            event_hooks={"response": [self._name_operation]},
        )
        self._made: list[str] = []
        self.operations: list[tuple[str, bool]] = [] if operations is None else operations
        """The operations of all requests, in order, and whether they succeeded."""

    def _name_operation(self, answer: httpx.Response) -> None:
        path = answer.request.url.raw_path.decode("ascii").partition("?")[0]
        below = path.removeprefix(self.base_url.raw_path.decode("ascii"))
        operation = published.read().operation(answer.request.method, below)
        answer.extensions[OPERATION] = operation
        self.operations.append((operation, answer.is_success))

    def with_key(self, key: str | None) -> ContractClient:
        """A client of the same service with another key, or none."""
        return ContractClient(str(self.base_url), key, self.operations)

    @property
    def root_url(self) -> str:
        """The base URL without `/v1`, where a server of this project has more."""
        return str(self.base_url).rstrip("/").removesuffix("/v1")

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
        if answer.is_success:
            self.note(f"instances/{answer.json()['id']}")
        return answer

    def created_or_skipped(self, **fields: Any) -> dict[str, Any]:
        """A new instance, which is deleted at the end. Skips the test where there is no room."""
        answer = self.created(**fields)
        if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
            pytest.skip(f"No room for an instance: {refused(answer, answer.status_code)}")
        instance: dict[str, Any] = answered(answer)
        return instance

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
        self,
        instance_id: str,
        session: str | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        """The answer to a message."""
        body = {"model": MODEL, **fields}
        return self.post(responses_path(instance_id, session), json=body, headers=headers)

    def say(self, instance_id: str, text: str, session: str | None = None, **fields: Any) -> str:
        """The text of the answer to a message."""
        return text_of(answered(self.message(instance_id, session, input=text, **fields)))

    def events(self, answer: httpx.Response) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer; fails unless it ends with `[DONE]`."""
        require_status(answer, 200)
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                return
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
        require(answer, "[DONE] at the end of the stream", "no such line", holds=False)


def responses_path(instance_id: str, session: str | None = None) -> str:
    """The path for messages to the main or a named session."""
    if session is None:
        return f"instances/{instance_id}/responses"
    return f"instances/{instance_id}/session/{quote(session, safe='')}/responses"


def calls(*access: str) -> Iterator[tuple[str, PublishedCall]]:
    """The ids and calls with one of these accesses; all if none is named."""
    for operation, call in published.read().calls.items():
        if not access or call.access in access:
            yield operation, call


def send_harmless(
    client: ContractClient, operation: str, instance_id: str = NOWHERE
) -> httpx.Response:
    """Sends a request without any required member, which changes nothing unless it is of ENDS."""
    call = published.read().calls[operation]
    places = {
        "id": NOWHERE if operation in {"getKey", "revokeKey"} else instance_id,
        # To disconnect one needs no body.
        "channel": "pigeon" if operation == "disconnectChannel" else "telegram",
        "name": "no-such-skill",
        "session_id": "a-session",
    }
    body = BODIES.get(operation, {}) if call.required or call.optional else None
    path = call.path.format_map(places)
    return client.request(call.method, path, **({} if body is None else {"json": body}))


def media_type_of(answer: httpx.Response) -> str:
    """The media type of an answer, without parameters."""
    return str(answer.headers.get("Content-Type", "none").partition(";")[0])


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
        if time.monotonic() >= deadline_s:
            raise AssertionError(f"not within {AGENT_TIMEOUT_S:g} s: {what}")
        time.sleep(POLL_S)
    return found
