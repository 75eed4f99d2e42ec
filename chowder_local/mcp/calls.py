"""Calls the API as the client of a tool would, with the client's key."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel

from chowder_local.api.operations import IN_PATH
from chowder_local.core.errors import ChowderError
from chowder_local.mcp.tools import CHANGES_STATUS
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import httpx

    from chowder_local.api.operations import Operation

    Progress = Callable[[float, str], Awaitable[None]]

POLL_INTERVAL_S = 0.1
LAST_LINES = 200


class CallRefused(ChowderError):
    """The API refused a call; the message is its own."""


@dataclass(frozen=True)
class Calls:
    """Calls of one client, whose headers name its key, to this server at `root_url`."""

    http: httpx.AsyncClient
    root_url: str
    headers: Mapping[str, str]
    on_progress: Progress

    async def perform(self, operation: Operation, arguments: Mapping[str, Any]) -> Any:
        """The answer of an operation. Raises CallRefused if the API refuses it."""
        left = dict(arguments)
        path = IN_PATH.sub(lambda match: escaped(left.pop(match[1])), operation.path)
        names = operation.query.model_fields if operation.query else ()
        query = {name: left.pop(name) for name in names if name in left}
        is_json = isinstance(operation.body, type) and issubclass(operation.body, BaseModel)
        answer = await self.call(operation.method, path, query, left if is_json else None)
        if operation.operation_id in CHANGES_STATUS:
            return await self._until_provisioned(answer)
        return answer

    async def call(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The answer of a call: JSON, or else text. Raises CallRefused if the API refuses it."""
        response = await self.http.request(
            method, self.root_url + path, params=query, json=body, headers=dict(self.headers)
        )
        if not response.is_success:
            raise CallRefused(_message(response.status_code, response.text))
        if "json" in response.headers.get("Content-Type", ""):
            return response.json()
        return response.text

    async def answer(
        self, instance_id: str, text: str, session: str | None, model: str
    ) -> dict[str, Any]:
        """An agent's whole answer, whose text is reported as it comes. Raises CallRefused."""
        whose = "" if session is None else f"/session/{escaped(session)}"
        path = f"/v1/instances/{escaped(instance_id)}{whose}/responses"
        body = {"model": model, "input": text, "stream": True}
        length = 0
        async with self.http.stream(
            "POST", self.root_url + path, json=body, headers=dict(self.headers)
        ) as response:
            if not response.is_success:
                await response.aread()
                raise CallRefused(_message(response.status_code, response.text))
            async for event in _events(response):
                kind = event.get("type")
                if kind == "response.output_text.delta":
                    length += len(event["delta"])
                    await self.on_progress(length, event["delta"])
                elif kind == "response.completed":
                    return dict(event["response"])
                elif kind in {"response.failed", "error"}:
                    error = event.get("response", event).get("error") or event
                    raise CallRefused(str(error.get("message") or "The answer failed."))
        raise CallRefused("The answer broke off before its end.")

    async def _until_provisioned(self, instance: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/instances/{instance['id']}"
        began, last = time.monotonic(), -1
        while instance["status"] == "provisioning":
            if (took_s := int(time.monotonic() - began)) > last:
                last = took_s
                await self.on_progress(took_s, f"provisioning for {took_s} s")
            await asyncio.sleep(POLL_INTERVAL_S)
            status = await self.call("GET", f"{path}/status")
            if status["status"] != "provisioning":
                instance = await self.call("GET", path)
        return instance


def escaped(argument: Any) -> str:
    """An argument as one segment of a path."""
    return quote(str(argument), safe="")


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    reader = EventReader()
    async for chunk in response.aiter_bytes():
        for event in reader.feed(chunk):
            if event.data is not None and event.data != "[DONE]":
                yield json.loads(event.data)


def _message(status: int, text: str) -> str:
    """The words of an error in any of the contract's shapes, which are sent on as they are."""
    phrase = HTTPStatus(status).phrase
    return f"{status} {phrase}: {text.strip()[:4000]}"
