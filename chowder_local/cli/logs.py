"""`logs`: prints the log of an agent's sandbox."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command
from chowder_local.cli.output import say
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.command(cls=Command)
@click.argument("instance", shell_complete=complete_instance)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.option(
    "--tail", type=click.IntRange(1), default=200, show_default=True, help="Number of latest lines."
)
@pass_client
def logs(client: Client, instance: str, follow: bool, tail: int) -> None:
    """Print the log of the sandbox of INSTANCE (name, id, or beginning of an id)."""
    agent = find_instance(client, instance)
    with closing(client.logs(agent["id"], tail, follow=follow)) as lines:
        for line in lines:
            say(line)
