"""Row: a person's message in each channel of the local messenger, beside one to the API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.comparison import compare
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, column, paired_difference
from benchmarks.waiting import took_ms
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

ROUNDS, WARM_UP = 10, 3
ANSWER_S = 60
BOUND_MS = 500


def channels(bench: Bench) -> Outcome:
    """What a person waits for in each channel, compared with `…/responses` to the same agent."""
    with bench.agent() as (server, instance):
        measures = tuple(_measured(bench, server, instance, each) for each in sorted(CHANNELS))
    note = "Telegram: OpenClaw keeps a second between the notice that it types and the answer."
    return Outcome("channels", "A person's message in a channel", measures, WARM_UP, (note,))


def _measured(bench: Bench, server: Server, instance: Mapping[str, Any], channel: str) -> Measure:
    messages = f"/local/instances/{instance['id']}/channels/{channel}/messages"
    connection = f"/v1/instances/{instance['id']}/channels/{channel}"
    person = {"from": "Ada", "text": "Hello.", "wait_s": ANSWER_S}
    bench.progress(f"connecting {channel}")
    server.call("POST", f"{connection}/connect", {"config": {"offline": True}})
    server.call("POST", messages, {**person, "approve": True})

    def in_channel() -> Sample:
        return {"whole": took_ms(partial(server.call, "POST", messages, person))}

    taken = alternately(
        {
            channel: in_channel,
            "responses": lambda: {"whole": server.say(instance, "Hello.")},
        },
        bench.rounds_or(ROUNDS),
        WARM_UP,
        lambda progress: bench.progress(f"{channel}: {progress}"),
    )
    server.call("POST", f"{connection}/disconnect")
    server.call("DELETE", messages)
    more = paired_difference(*(column(taken[each], "whole") for each in (channel, "responses")))
    goal = Goal(Rule.MORE_AT_MOST, BOUND_MS)
    return compare(
        taken, "whole", channel, "ms", "responses", "responses", goal, ours=channel, more=more
    )
