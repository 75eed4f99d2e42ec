"""`events`: what the server decides, as it happens."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, say, without_controls
from chowder_local.cli.resolve import SHORT_ID_LENGTH, find_instance_id

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.command(cls=Command)
@output_option
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option("-t", "--type", "prefix", default="", help="Only types that begin so: boot, model.")
@pass_client
def events(client: Client, output: Output, instance: str | None, prefix: str) -> None:
    """Follow the events of all instances, or those of INSTANCE, until Ctrl-C.

    With --output json, each event is one line.
    """
    instance_id = find_instance_id(client, instance)
    with closing(client.events()) as following:
        for event in following:
            if instance_id not in (None, event.get("instance_id")):
                continue
            if event["type"].startswith(prefix):
                say(json.dumps(event) if output is Output.JSON else _line(event, output))


def _line(event: dict[str, Any], output: Output) -> str:
    members = dict(event)
    at, kind = members.pop("at"), members.pop("type")
    whose = members.pop("instance_id", None) or "-"
    if output is Output.TABLE:
        at, whose = at[11:23], whose[:SHORT_ID_LENGTH]
    known = (f"{name}={value}" for name, value in members.items() if value is not None)
    return without_controls(f"{at}  {whose}  {kind}  {' '.join(known)}").rstrip()
