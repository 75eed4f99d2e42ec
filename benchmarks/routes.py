"""The two ways to an agent: by our API, and straight to its gateway, into the same conversation."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx
import uvloop

from benchmarks.servers import CALL_TIMEOUT_S, MODEL
from benchmarks.waiting import NotMeasured, ms_since
from chowder_local.core.domain import ModelProvider
from chowder_local.openclaw.models import ModelRoute
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.servers import Server

OUTPUT = b"response.output_text.delta"
"""In the first event that has any. OpenClaw announces an answer as soon as it is asked for one;
our stream begins with what the model says, because until then a failure is the request's."""


@dataclass(frozen=True)
class Route:
    """Where a message of a named session is sent, and with what."""

    url: str
    headers: Mapping[str, str]
    model: str

    @classmethod
    def through_us(cls, server: Server, instance: Mapping[str, Any], session: str) -> Self:
        """By the API."""
        path = f"/v1/instances/{instance['id']}/session/{session}/responses"
        return cls(server.url + path, server.headers, MODEL)

    @classmethod
    def straight(cls, gateway: Mapping[str, Any], session: str) -> Self:
        """By the gateway's own endpoint."""
        headers = {
            "Authorization": f"Bearer {gateway['token']}",
            "x-openclaw-model": ModelRoute(ModelProvider.ANTHROPIC, MODEL).openclaw_model,
            "x-openclaw-session-key": session_key(session),
        }
        return cls(f"{gateway['gateway_url']}/v1/responses", headers, "openclaw")

    def body(self, text: str, *, is_streamed: bool = False) -> dict[str, Any]:
        """The message."""
        return {"model": self.model, "input": text} | ({"stream": True} if is_streamed else {})


class Caller:
    """Sends one message after the other, on a connection that is kept."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._http = httpx.Client(headers=route.headers, timeout=CALL_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def whole_ms(self) -> float:
        """Until a whole answer was in."""
        began_s = time.perf_counter()
        answer = self._http.post(self._route.url, json=self._route.body("Hello."))
        took_ms = ms_since(began_s)
        if not answer.is_success or not answer.json()["output"]:
            raise NotMeasured(f"a message: {answer.status_code} {answer.text[:300]}")
        return took_ms

    def streamed_ms(self) -> tuple[float, float]:
        """Until the first output of a streamed answer, and until its last byte."""
        body = self._route.body("Hello.", is_streamed=True)
        began_s = time.perf_counter()
        first_ms, said = None, bytearray()
        with self._http.stream("POST", self._route.url, json=body) as answer:
            for chunk in answer.iter_raw():
                said += chunk
                if first_ms is None and OUTPUT in said:
                    first_ms = ms_since(began_s)
        last_ms = ms_since(began_s)
        if first_ms is None or b"response.completed" not in said:
            raise NotMeasured(f"a streamed message: {said[:300].decode(errors='replace')}")
        return first_ms, last_ms


def streamed_together(routes: Sequence[Route], text: str) -> tuple[list[float], float]:
    """All at once: the milliseconds until each one's first output, and until all have ended."""
    began_s = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        first_ms = runner.run(_all(routes, text))
    return first_ms, ms_since(began_s)


async def _all(routes: Sequence[Route], text: str) -> list[float]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=CALL_TIMEOUT_S, limits=limits, trust_env=False) as client:
        return list(await asyncio.gather(*(_streamed(client, route, text) for route in routes)))


async def _streamed(client: httpx.AsyncClient, route: Route, text: str) -> float:
    began_s = time.perf_counter()
    first_ms, said = None, bytearray()
    async with client.stream(
        "POST",
        route.url,
        json=route.body(text, is_streamed=True),
        headers=dict(route.headers),
    ) as answer:
        async for chunk in answer.aiter_raw():
            said += chunk
            if first_ms is None and OUTPUT in said:
                first_ms = ms_since(began_s)
    if first_ms is None or b"response.completed" not in said or b"[DONE]" not in said:
        raise NotMeasured(f"a stream: {answer.status_code} {said[-400:].decode(errors='replace')}")
    return first_ms
