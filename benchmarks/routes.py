"""The two ways to an agent: through the API, and straight to its gateway, in one session."""

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
"""The first event with output. OpenClaw announces an answer at once; this server's stream begins
with the model's output, because a failure before it is answered with an error status."""


@dataclass(frozen=True)
class Route:
    """The address and headers for messages of a named session."""

    url: str
    headers: Mapping[str, str]
    model: str

    @classmethod
    def through_us(cls, server: Server, instance: Mapping[str, Any], session: str) -> Self:
        """The route through the API."""
        path = f"/v1/instances/{instance['id']}/session/{session}/responses"
        return cls(server.url + path, server.headers, MODEL)

    @classmethod
    def straight(cls, gateway: Mapping[str, Any], session: str) -> Self:
        """The route through the gateway's endpoint."""
        headers = {
            "Authorization": f"Bearer {gateway['token']}",
            "x-openclaw-model": ModelRoute(ModelProvider.ANTHROPIC, MODEL).openclaw_model,
            "x-openclaw-session-key": session_key(session),
        }
        return cls(f"{gateway['gateway_url']}/v1/responses", headers, "openclaw")

    def body(self, text: str, *, is_streamed: bool = False) -> dict[str, Any]:
        """The body of a message."""
        return {"model": self.model, "input": text} | ({"stream": True} if is_streamed else {})


class Caller:
    """Sends messages one after the other on a persistent connection."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._http = httpx.Client(headers=route.headers, timeout=CALL_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def whole_ms(self) -> float:
        """Milliseconds until the answer was complete."""
        began_s = time.perf_counter()
        answer = self._http.post(self._route.url, json=self._route.body("Hello."))
        took_ms = ms_since(began_s)
        if not answer.is_success or not answer.json()["output"]:
            raise NotMeasured(f"a message: {answer.status_code} {answer.text[:300]}")
        return took_ms

    def streamed_ms(self) -> tuple[float, float]:
        """Milliseconds until the first output of a streamed answer, and until its end."""
        body = self._route.body("Hello.", is_streamed=True)
        began_s = time.perf_counter()
        first_ms, received = None, bytearray()
        with self._http.stream("POST", self._route.url, json=body) as answer:
            for chunk in answer.iter_raw():
                received += chunk
                if first_ms is None and OUTPUT in received:
                    first_ms = ms_since(began_s)
        last_ms = ms_since(began_s)
        if first_ms is None or b"response.completed" not in received:
            raise NotMeasured(f"a streamed message: {received[:300].decode(errors='replace')}")
        return first_ms, last_ms


def streamed_together(routes: Sequence[Route], text: str) -> tuple[list[float], float]:
    """Concurrent streams: milliseconds until the first output of each, and until all have ended."""
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
    first_ms, received = None, bytearray()
    async with client.stream(
        "POST",
        route.url,
        json=route.body(text, is_streamed=True),
        headers=dict(route.headers),
    ) as answer:
        async for chunk in answer.aiter_raw():
            received += chunk
            if first_ms is None and OUTPUT in received:
                first_ms = ms_since(began_s)
    if first_ms is None or b"response.completed" not in received or b"[DONE]" not in received:
        raise NotMeasured(
            f"a stream: {answer.status_code} {received[-400:].decode(errors='replace')}"
        )
    return first_ms
