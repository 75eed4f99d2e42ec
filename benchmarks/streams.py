"""Row: sixty-four streamed answers at once, through us and straight from the same gateway."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import uvloop

from benchmarks.model_stand_in import asked_for
from benchmarks.results import Measure, Outcome
from benchmarks.samples import alternately, column, middle
from benchmarks.servers import MODEL
from benchmarks.waiting import NotMeasured, ms_since
from chowder_local.domain import ModelProvider
from chowder_local.openclaw.models import ModelRoute
from chowder_local.openclaw.sessions import session_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

STREAMS = 64
ROUNDS = 2
PIECES, PIECE_BYTES, INTERVAL_MS = 40, 60, 25
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Way:
    """How a message in a named conversation is asked for."""

    url: Callable[[str], str]
    headers: Callable[[str], Mapping[str, str]]
    model: str


def streams(bench: Bench) -> Outcome:
    """All begin at once, each in a conversation of its own that has begun before."""
    # After eight times so many turns OpenClaw's heap is full, and it ends.
    rounds = min(bench.rounds_or(ROUNDS), ROUNDS)
    with (
        bench.python("benchmarks.model_stand_in") as port,
        bench.server(
            ANTHROPIC_API_KEY="benchmark", ANTHROPIC_BASE_URL=f"http://127.0.0.1:{port}/anthropic"
        ) as server,
    ):
        bench.hear("booting an agent")
        instance, _ = server.create()
        server.say(instance, "Hello.")
        told = server.call("GET", f"/local/instances/{instance['id']}/gateway")
        ways = {"ours": _through_us(server, instance), "straight": _straight(told)}
        names = [f"stream-{secrets.token_hex(4)}" for _ in range(STREAMS)]
        subjects: dict[str, Callable[[], Sample]] = {
            name: _measured(server, way, names) for name, way in ways.items()
        }
        # The warm-up round begins the conversations.
        taken = alternately(subjects, rounds, 1, bench.hear)
    measures = []
    for metric, what, unit in (
        ("all_s", f"{STREAMS} streams, until the last has ended", "s"),
        ("first_ms", "median first SSE byte among them", "ms"),
        ("server_cpu_s", "our server's processor time", "CPU-s"),
    ):
        mine, theirs = column(taken["ours"], metric), column(taken["straight"], metric)
        peer_name = "as the relay only" if metric == "server_cpu_s" else "straight"
        samples = {"ours": mine, "straight": theirs}
        measures.append(
            Measure(
                what, unit, middle(mine), middle(theirs), peer_name, rounds=rounds, samples=samples
            )
        )
    note = f"Each of the {STREAMS} answers has {PIECES} pieces, one every {INTERVAL_MS} ms."
    return Outcome("streams", f"{STREAMS} streams at once", tuple(measures), 1, (note,))


def _through_us(server: Server, instance: Mapping[str, Any]) -> Way:
    path = f"{server.url}/v1/instances/{instance['id']}/session"
    return Way(lambda name: f"{path}/{name}/responses", lambda _: server.headers, MODEL)


def _straight(told: Mapping[str, Any]) -> Way:
    headers = {
        "Authorization": f"Bearer {told['token']}",
        "x-openclaw-model": ModelRoute(ModelProvider.ANTHROPIC, MODEL).openclaw_model,
    }
    return Way(
        lambda _: f"{told['gateway_url']}/v1/responses",
        lambda name: headers | {"x-openclaw-session-key": session_key(name)},
        "openclaw",
    )


def _measured(server: Server, way: Way, names: list[str]) -> Callable[[], Sample]:
    def measure() -> Sample:
        before_s = server.used_s()
        began_s = time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            first_ms = runner.run(_all(way, names))
        elapsed_s = time.perf_counter() - began_s
        used_s = server.used_s() - before_s
        return {"all_s": elapsed_s, "first_ms": middle(first_ms), "server_cpu_s": used_s}

    return measure


async def _all(way: Way, names: list[str]) -> list[float]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
        return list(await asyncio.gather(*(_one(client, way, name) for name in names)))


async def _one(client: httpx.AsyncClient, way: Way, name: str) -> float:
    body = {
        "model": way.model,
        "input": asked_for(PIECES, PIECE_BYTES, INTERVAL_MS),
        "stream": True,
    }
    began_s = time.perf_counter()
    first_ms, said = None, bytearray()
    async with client.stream(
        "POST", way.url(name), json=body, headers=dict(way.headers(name))
    ) as answer:
        async for chunk in answer.aiter_raw():
            first_ms = ms_since(began_s) if first_ms is None else first_ms
            said += chunk
    if first_ms is None or b"response.completed" not in said or b"[DONE]" not in said:
        raise NotMeasured(f"a stream: {answer.status_code} {said[-400:].decode(errors='replace')}")
    return first_ms
