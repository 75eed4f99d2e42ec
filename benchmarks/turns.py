"""Rows: the first message of an agent, and what the way through us adds to a message."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, column, mean, middle, p99, paired_difference
from benchmarks.servers import CALL_TIMEOUT_S, MODEL
from benchmarks.stock_openclaw import started, stock
from benchmarks.waiting import NotMeasured, ms_since
from chowder_local.domain import ModelProvider
from chowder_local.openclaw.models import ModelRoute
from chowder_local.openclaw.sessions import session_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server
    from benchmarks.stock_openclaw import Stock

FIRST_ROUNDS = 5
LATER_MESSAGES = 5
MESSAGE_ROUNDS = 100
SESSION = "bench"


def first_message(bench: Bench) -> Outcome:
    """A new agent's first message beside its later ones; ours made warm and cold, and stock."""
    rounds = bench.rounds_or(FIRST_ROUNDS)
    with bench.server(POOL_SIZE="1") as pooled, bench.server() as plain, stock(bench) as peer:

        def warm() -> Sample:
            # The next spare has to be there before this one's messages are timed, too.
            pooled.wait_for_pool(1)
            instance, _ = pooled.create()
            pooled.wait_for_pool(1)
            return _talked(pooled, instance)

        subjects: dict[str, Callable[[], Sample]] = {
            "warm": warm,
            "cold": lambda: _talked(plain, plain.create()[0]),
            "stock": lambda: _stock_talked(peer),
        }
        taken = alternately(subjects, rounds, 0, bench.hear)
    measures = []
    for subject, what, goal in (
        ("warm", "first message after a warm create", Goal(Rule.RATIO_AT_MOST, 2)),
        ("cold", "first message after a cold create", None),
        ("stock", "first message to stock OpenClaw", None),
    ):
        first, later = column(taken[subject], "first"), column(taken[subject], "later")
        measures.append(
            Measure(
                what,
                "ms",
                middle(first),
                middle(later),
                f"median of its next {LATER_MESSAGES}",
                goal,
                rounds=rounds,
                samples={"first": first, "later": later},
            )
        )
    return Outcome("first-message", "First message", tuple(measures))


def message(bench: Bench) -> Outcome:
    """A message through us and straight to the same gateway, in the same conversation."""
    rounds = bench.rounds_or(MESSAGE_ROUNDS)
    with bench.server() as server:
        bench.hear("booting an agent")
        instance, _ = server.create()
        told = server.call("GET", f"/local/instances/{instance['id']}/gateway")
        with Route.through_us(server, instance) as ours, Route.straight(told) as straight:
            subjects = {
                "ours": lambda: _sent(ours, server),
                "straight": lambda: _sent(straight, server),
            }
            taken = alternately(subjects, rounds, 5, bench.hear)
    mine, theirs = taken["ours"], taken["straight"]
    measures = []
    for metric, what in (("whole", "whole answer"), ("first byte", "first SSE byte")):
        ours_ms, peer_ms = column(mine, metric), column(theirs, metric)
        samples = {"ours": ours_ms, "straight": peer_ms}
        measures.append(
            Measure(
                what, "ms", middle(ours_ms), middle(peer_ms), "straight",
                Goal(Rule.MORE_AT_MOST, 3), "median",
                rounds, paired_difference(ours_ms, peer_ms), samples,
            )
        )  # fmt: skip
        measures.append(
            Measure(
                what, "ms", p99(ours_ms), p99(peer_ms), "straight",
                Goal(Rule.MORE_AT_MOST, 10) if metric == "whole" else None, "p99", rounds,
            )
        )  # fmt: skip
    measures.append(
        Measure(
            "our server's processor time, a whole and a streamed answer",
            "CPU-ms",
            mean(column(mine, "server cpu")),
            mean(column(theirs, "server cpu")),
            "as the relay only",
            statistic="mean",
            rounds=rounds,
        )
    )
    note = (
        "An agent's own time for a turn varies by more than what a proxy adds to it; so the "
        "difference of a message's medians is the median of the differences in each round."
    )
    return Outcome("message", "A message through us", tuple(measures), 5, (note,))


class Route:
    """One way to the agent, on a connection that is kept."""

    def __init__(self, url: str, headers: Mapping[str, str], model: str) -> None:
        self._url = url
        self._model = model
        self._http = httpx.Client(headers=headers, timeout=CALL_TIMEOUT_S, trust_env=False)

    @classmethod
    def through_us(cls, server: Server, instance: Mapping[str, Any]) -> Route:
        """By the API."""
        path = f"/v1/instances/{instance['id']}/session/{SESSION}/responses"
        return cls(server.url + path, server.headers, MODEL)

    @classmethod
    def straight(cls, told: Mapping[str, Any]) -> Route:
        """By the gateway's own endpoint, into the same conversation."""
        headers = {
            "Authorization": f"Bearer {told['token']}",
            "x-openclaw-model": ModelRoute(ModelProvider.ANTHROPIC, MODEL).openclaw_model,
            "x-openclaw-session-key": session_key(SESSION),
        }
        return cls(f"{told['gateway_url']}/v1/responses", headers, "openclaw")

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def whole_ms(self) -> float:
        """Until a whole answer was in."""
        began_s = time.perf_counter()
        answer = self._http.post(self._url, json={"model": self._model, "input": "Hello."})
        if "[offline]" not in answer.text:
            raise NotMeasured(f"a message: {answer.status_code} {answer.text[:300]}")
        return ms_since(began_s)

    def first_byte_ms(self) -> float:
        """Until the first byte of a streamed answer; the rest is read as well."""
        body = {"model": self._model, "input": "Hello.", "stream": True}
        began_s = time.perf_counter()
        with self._http.stream("POST", self._url, json=body) as answer:
            chunks = answer.iter_raw()
            first = next(chunks)
            took_ms = ms_since(began_s)
            said = first + b"".join(chunks)
        if b"response.completed" not in said:
            raise NotMeasured(f"a streamed message: {said[:300].decode(errors='replace')}")
        return took_ms


def _sent(route: Route, server: Server) -> Sample:
    before_s = server.used_s()
    sample = {"whole": route.whole_ms(), "first byte": route.first_byte_ms()}
    return sample | {"server cpu": (server.used_s() - before_s) * 1000}


def _talked(server: Server, instance: Mapping[str, Any]) -> Sample:
    sample = _first_and_later(lambda words: server.say(instance, words))
    server.delete(instance)
    return sample


def _stock_talked(stock: Stock) -> Sample:
    agent = started(stock)
    sample = _first_and_later(agent.say)
    agent.container.remove(force=True, v=True)
    return sample


def _first_and_later(say: Callable[[str], float]) -> Sample:
    first_ms = say("Hello.")
    return {
        "first": first_ms,
        "later": middle([say(f"Message {number}.") for number in range(LATER_MESSAGES)]),
    }
