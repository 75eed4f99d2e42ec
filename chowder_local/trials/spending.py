"""What agents have taken of models, and what budget has refused them more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.client import Client
    from chowder_local.client.transport import Json

MAX_TRACES = 1_000
MAX_READ_TURNS = 20
"""Of so many latest turns, the tools are read."""


@dataclass(frozen=True)
class Spending:
    """What agents took and did; the cost is None if a price is unknown."""

    cost_usd: float | None = 0.0
    tokens: int = 0
    model_calls: int = 0
    turns: int = 0
    tools: tuple[str, ...] = ()
    """The names of the tools that the agent ran, each as often as it did."""

    def __add__(self, other: Spending) -> Spending:
        costs = (self.cost_usd, other.cost_usd)
        return Spending(
            None if None in costs else sum(filter(None, costs)),
            self.tokens + other.tokens,
            self.model_calls + other.model_calls,
            self.turns + other.turns,
            self.tools + other.tools,
        )

    @property
    def cost(self) -> str:
        """The cost for people."""
        return "unknown, as a price is" if self.cost_usd is None else f"{self.cost_usd:.4f} USD"


def total(client: Client) -> Spending:
    """What all model calls of the organization took so far."""
    return _spending_of(client.usage()["totals"])


def spending(
    client: Client, instance_id: str, since: datetime, session: str | None = None
) -> Spending:
    """What the model calls of an instance took, or those of a session, and its turns since then."""
    usage = client.usage(instance_id)
    rows = [usage["totals"]]
    if session is not None:
        rows = [each for each in usage["rows"] if each["session"] == session]
    turns = [
        each
        for each in client.traces(instance_id, MAX_TRACES)
        if datetime.fromisoformat(each["at"]) >= since
        and (session is None or each["session"] == session)
    ]
    tools = (
        step["name"]
        for each in reversed(turns[:MAX_READ_TURNS])
        for step in client.trace(instance_id, each["id"])["steps"]
        if step["kind"] == "tool"
    )
    return replace(sum(map(_spending_of, rows), Spending()), turns=len(turns), tools=tuple(tools))


def refusal(
    client: Client, instance_ids: Sequence[str], since: datetime
) -> tuple[str, bool] | None:
    """What a budget says that has refused a model call since then, if one has.

    And whether it is the organization's, which all instances share.
    """
    for instance_id in (None, *instance_ids):
        try:
            budget = client.budget(instance_id)
        except ChowderError:
            # There is none, or the server does not answer, which the failure itself says.
            continue
        refused_at = budget["refused_at"] and datetime.fromisoformat(budget["refused_at"])
        if refused_at and refused_at >= since:
            so_far = total(client).cost
            return f"{budget['message']} Cost of the run so far: {so_far}.", instance_id is None
    return None


def _spending_of(usage: Json) -> Spending:
    tokens = usage["input_tokens"] + usage["output_tokens"]
    return Spending(usage["cost_usd"], tokens, usage["calls"])
