"""What other programs start: `completion` a shell, and `worker` a swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from chowder_local.cli.options import Command
from chowder_local.cli.output import say_text
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.wording import PROGRAM

if TYPE_CHECKING:
    from chowder_local.cli.context import Context

SHELLS = {each.name: each for each in (BashComplete, ZshComplete, FishComplete)}
VARIABLE = "_CHOWDER_LOCAL_COMPLETE"
"""By this variable, click's scripts ask for completions."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands and names, for eval.

    For bash, add this to ~/.bashrc: eval "$(chowder-local completion bash)"
    """
    say_text(SHELLS[shell](context.find_root().command, {}, PROGRAM, VARIABLE).source())


@click.command(cls=Command)
@click.pass_obj
def worker(context: Context) -> None:
    """Serve a node of a swarm.

    docker/stack.yaml starts it in a container on each node, with the socket of the node's engine
    and the stack's secret. It takes orders from the stack's server only.
    """
    from chowder_local.core import logs
    from chowder_local.engine.connection import find_engine
    from chowder_local.engine.swarm import worker as node_worker
    from chowder_local.engine.swarm.tunnel import read_secret

    settings = context.settings()
    if settings.swarm is None:
        raise SettingsInvalid("CHOWDER_SWARM is not set: docker/stack.yaml starts workers.")
    logs.configure(settings.log_level, settings.log_format)
    secret = read_secret()
    node_worker.run(find_engine(context.env), f"{settings.swarm}_control", secret)
