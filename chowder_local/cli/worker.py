"""`worker`: serves a node of a swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chowder_local.cli.options import Command
from chowder_local.core import logs
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.engine.connection import find_engine
from chowder_local.engine.swarm import worker as node_worker
from chowder_local.engine.swarm.tunnel import read_secret

if TYPE_CHECKING:
    from chowder_local.cli.context import Context


@click.command(cls=Command)
@click.pass_obj
def worker(context: Context) -> None:
    """Serve a node of a swarm.

    docker/stack.yaml starts it in a container on each node, with the socket of the node's engine
    and the stack's secret. It takes orders from the stack's server only.
    """
    settings = context.settings()
    if settings.swarm is None:
        raise SettingsInvalid("CHOWDER_SWARM is not set: docker/stack.yaml starts workers.")
    logs.configure(settings.log_level, settings.log_format)
    secret = read_secret()
    node_worker.run(find_engine(context.env), f"{settings.swarm}_control", secret)
