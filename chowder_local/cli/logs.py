"""`logs`: prints the logs of agents' sandboxes."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command
from chowder_local.cli.output import note, say
from chowder_local.cli.resolve import find_instance
from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

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
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option("--all", "is_all", is_flag=True, help="All agents; their names begin the lines.")
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
def logs(
    client: Client,
    instance: str | None,
    is_all: bool,
    follow: bool,
    tail: int,
    since: datetime | None,
) -> None:
    """Print the log of the sandbox of INSTANCE (name, id, or beginning of an id).

    With --all and --follow, the agents are those that there are now.
    """
    if is_all is (instance is not None):
        raise click.UsageError("Give either INSTANCE or --all.")

    read = partial(client.logs, tail=tail, follow=follow, since=since)
    if instance is not None:
        _show(read, find_instance(client, instance)["id"])
        return
    # One that is followed has no end. Daemons, so that Ctrl-C ends them all.
    threads = [
        Thread(target=_show_one_of_all, args=(read, agent), daemon=True)
        for agent in client.instances()
    ]
    for thread in threads:
        thread.start()
        if not follow:
            thread.join()
    for thread in threads:
        thread.join()


def _show(read: Callable[[str], Generator[str]], instance_id: str, prefix: str = "") -> None:
    with closing(read(instance_id)) as lines:
        for line in lines:
            say(prefix + line)


def _show_one_of_all(read: Callable[[str], Generator[str]], agent: dict[str, Any]) -> None:
    try:
        _show(read, agent["id"], f"{agent['name']} | ")
    except ChowderError as failure:
        note(f"{agent['name']}: {failure}")
