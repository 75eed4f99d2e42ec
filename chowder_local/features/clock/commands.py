"""`clock`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import Row, find_instance, instance_argument, noun
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command, TimeType, output_option
from chowder_local.cli.output import Output, format_time, note, say, show_json, waiting
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.wording import MOMENT_S

if TYPE_CHECKING:
    from chowder_local.client import Client


class Moment(TimeType):
    """A time in ISO 8601, in this machine's zone if it names none."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2027-01-01T09:00.", param, ctx)


def _line(clock: dict[str, Any]) -> str:
    state = "stands still" if clock["is_frozen"] else "goes on"
    seed = "" if clock["seed"] is None else f", seed {clock['seed']}"
    return f"{format_time(clock['now'])} ({clock['offset_s']:+,.0f} s), {state}{seed}"


def _warning(clock: dict[str, Any]) -> str:
    return clock["warning"] or ""


def _show_runs(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        error = f": {run['error']}" if run["error"] else ""
        say(f"{format_time(run['began_at'])}  {run['job']}  {run['outcome']}{error}")


# fmt: off
clock = noun("clock", """Show, set and move on the clock of an agent.

    An agent's clock is the machine's until it is set. Its programs and its jobs go by it. It does
    not go back once the agent has jobs.
    """, {
    "show": Row("clock", "instance", "Show an agent's time.", line=_line, note=_warning),
    "set": Row("set_clock", "instance", "Set an agent's time, let it stand still, or go on.",
        (
            click.option("--at", type=Moment(),
                help="The time, in this machine's zone if it names none."),
            click.option("--frozen/--running", default=None, help="Whether it stands still."),
            click.option("--seed", type=click.IntRange(min=0),
                help="What the agent's random ids follow from."),
        ), line=_line, note=_warning),
    "reset": Row("reset_clock", "instance", "Give an agent the machine's time, and random ids.",
        line=_line),
})
# fmt: on


@clock.command("advance", cls=Command)
@output_option
@instance_argument
@click.argument("by", required=False)
@click.option("--until", type=Moment(), help="The time to move on to.")
@click.option("--next-job", is_flag=True, help="Move on to the next time at which a job is due.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=1000, show_default=True,
    help="After how many runs to end in any case.",
)  # fmt: skip
@pass_client
def advance(
    client: Client,
    output: Output,
    instance: str,
    by: str | None,
    until: datetime | None,
    next_job: bool,
    limit: int,
) -> None:
    """Move an agent's clock on by BY, such as 25h, from one job that is due to the next.

    Each job runs at its time, and the command ends when the agent is quiet. Ctrl-C leaves the
    clock where it has come to.
    """
    if [by, until, next_job or None].count(None) != 2:
        raise click.UsageError("Give one of BY, --until and --next-job.")
    agent = find_instance(client, instance)
    try:
        with waiting(f"{agent['name']} moves on", MOMENT_S):
            moved = client.advance_clock(
                agent["id"], by=by, until=until, to="next_job" if next_job else None, limit=limit
            )
    except ApiRefused as refused:
        if output is not Output.JSON and isinstance(refused.body, dict):
            # Those before a stop, for example.
            _show_runs(refused.body.get("runs", []))
        raise
    if output is Output.JSON:
        show_json(moved)
        return
    _show_runs(moved["runs"])
    say(_line(moved))
    if not moved["has_arrived"]:
        note("It has not arrived: the limit or a cancellation has ended it.")
