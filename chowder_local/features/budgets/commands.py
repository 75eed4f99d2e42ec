"""`budget`: what model calls may take."""

from __future__ import annotations

from typing import Any

import click

from chowder_local.cli.commands import Row, noun
from chowder_local.cli.options import Usd, complete_instance
from chowder_local.cli.output import format_time
from chowder_local.features.budgets.model import BudgetPeriod


def _described(budget: dict[str, Any]) -> list[str]:
    spent, reserved = budget["spent"], budget["reserved"]
    rows = [
        ("USD", budget["usd"], f"{spent['usd']:.4f}", f"{reserved['usd']:.4f}"),
        ("Tokens", budget["tokens"], spent["tokens"], reserved["tokens"]),
        ("Model calls", budget["model_calls"], spent["model_calls"], reserved["model_calls"]),
    ]
    per = "in total" if budget["per"] == BudgetPeriod.TOTAL else f"a {budget['per']}"
    lines = [
        f"{name:<12} {taken} of {'any number' if limit is None else f'{limit:,}'} {per}"
        + (f", {held} reserved" if reserved["model_calls"] else "")
        for name, limit, taken, held in rows
    ]
    until = "" if budget["until"] is None else f", until {format_time(budget['until'])}"
    return [*lines, f"Since        {format_time(budget['since'])}{until} (UTC)"]


of_agent = click.option(
    "-i", "--instance", shell_complete=complete_instance,
    help="Of one agent (name, id, or beginning of an id) instead of the organization.",
)  # fmt: skip
# fmt: off
budget = noun("budget", """Limit what model calls may take.

    Past a budget, model calls are refused and the agent's turn ends at once. The organization and
    each agent may have one; a call has to fit both.
    """, {
    "show": Row("budget", "", "Show a budget, and what has been spent of it.", options=(of_agent,),
        line=_described, note=lambda budget: budget["message"] or ""),
    "set": Row("set_budget", "",
        """Set a budget, or change it: what was spent stays counted.

        What is left out has no limit.
        """,
        options=(
            of_agent,
            click.option("--usd", type=Usd(),
                help="USD at list price, or that of CHOWDER_PRICES."),
            click.option("--tokens", type=click.IntRange(min=0), help="Input and output tokens."),
            click.option("--model-calls", type=click.IntRange(min=0),
                help="Model calls, with those that the offline model answers."),
            click.option("--per", type=click.Choice([*map(str, BudgetPeriod)]), default="total",
                show_default=True, help="A day or month of UTC, or all since the budget was set."),
        ), line=_described, note=lambda budget: budget["message"] or ""),
    "rm": Row("remove_budget", "", "Remove a budget, with what was spent of it.",
        options=(of_agent,), done="The budget is removed."),
})
# fmt: on
