"""`completion`: makes a shell complete commands, options and the names of instances."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from chowder_local.cli.options import Command
from chowder_local.cli.output import say
from chowder_local.core.errors import ChowderError
from chowder_local.core.wording import PROGRAM

SHELLS = {each.name: each for each in (BashComplete, ZshComplete, FishComplete)}
TIMEOUT_S = 2.0
VARIABLE = "_CHOWDER_LOCAL_COMPLETE"
"""By this variable, click's scripts ask for completions."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands and names, for eval.

    For bash, add this to ~/.bashrc: eval "$(chowder-local completion bash)"
    """
    say(SHELLS[shell](context.find_root().command, {}, PROGRAM, VARIABLE).source())


def complete_instance(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of instances that begin like this; none if the server does not answer."""
    # Not the context's own client, whose remarks would get into the line that is being typed.
    from chowder_local.client import Client

    found = context.obj
    try:
        with Client(found.root_url(), found.key(), timeout_s=TIMEOUT_S) as client:
            names = sorted(str(each["name"]) for each in client.instances())
    except ChowderError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
