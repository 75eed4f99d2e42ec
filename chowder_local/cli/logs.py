"""`logs`: prints the log of an agent's sandbox."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command
from chowder_local.cli.output import say
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client


UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DISTANCE = re.compile(r"(\d{1,6})([smhd])")


class Since(click.ParamType[datetime]):
    """A time in ISO 8601, in this machine's zone if it names none, or how long ago it was."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            if distance := DISTANCE.fullmatch(value):
                number, unit = distance.groups()
                return datetime.now(UTC) - timedelta(seconds=int(number) * UNITS_S[unit])
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time such as 2026-11-28T10:00 nor 10m.", param, ctx)


@click.command(cls=Command)
@click.argument("instance", shell_complete=complete_instance)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.option(
    "--tail", type=click.IntRange(1), default=200, show_default=True, help="Number of latest lines."
)
@click.option(
    "--since",
    type=Since(),
    help="Leave out lines before this time, or before so long ago: 10m, 2h.",
)
@pass_client
def logs(client: Client, instance: str, follow: bool, tail: int, since: datetime | None) -> None:
    """Print the log of the sandbox of INSTANCE (name, id, or beginning of an id)."""
    agent = find_instance(client, instance)
    with closing(client.logs(agent["id"], tail, follow=follow, since=since)) as lines:
        for line in lines:
            say(line)
