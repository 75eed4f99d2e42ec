"""`channels`: connects agents to messengers."""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.assignments import secrets
from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Group, ensure_writable, output_option, yes_option
from chowder_local.cli.output import Output, note, say, show_list, show_result, without_controls
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.group(cls=Group)
def channels() -> None:
    """List, connect, pair and disconnect an agent's channels to messengers."""


@channels.command("ls")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@pass_client
def ls(client: Client, output: Output, instance: str) -> None:
    """List all channels, and whether they are enabled."""
    rows = client.channels(find_instance(client, instance)["id"])
    show_list(rows, ("CHANNEL", "CONNECTS BY", "ENABLED"), _row, output=output)


@channels.command("fields")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@pass_client
def fields(client: Client, output: Output, instance: str, channel: str) -> None:
    """List the fields that connecting a channel requires."""
    info = client.channel(find_instance(client, instance)["id"], channel)
    rows = [{"field": name, "what": what} for name, what in info["required_fields"].items()]
    show_list(
        rows,
        ("FIELD", "WHAT IT IS"),
        lambda each: (each["field"], each["what"]),
        output=output,
        if_empty=f"{channel} requires no fields.",
    )


@channels.command("connect")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...", callback=secrets)
@click.option(
    "--qr", type=click.Path(dir_okay=False, path_type=Path), help="Where a QR code is written."
)
@yes_option
@pass_client
def connect(
    client: Client,
    output: Output,
    instance: str,
    channel: str,
    fields: dict[str, str],
    qr: Path | None,
    yes: bool,
) -> None:
    """Connect a channel. On a terminal, required fields that are not given are asked for.

    A field that is left empty keeps what OpenClaw has. A value @FILE is read from a file and @-
    from standard input, so that it is in no history of commands. If a person has to scan a QR
    code, it is written to CHANNEL.png.
    """
    agent = find_instance(client, instance)
    if sys.stdin.isatty():
        required = client.channel(agent["id"], channel)["required_fields"]
        fields |= _ask({name: what for name, what in required.items() if name not in fields})
    connection = client.connect_channel(agent["id"], channel, fields)
    if image := connection["qr_image_base64"]:
        path = qr or Path(f"{channel}.png")
        ensure_writable(path, yes=yes)
        path.write_bytes(b64decode(image))
        note(f"Scan the QR code in {path}.")
    show_result(connection, without_controls(connection["message"]), output=output)


@channels.command("status")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@pass_client
def status(client: Client, output: Output, instance: str, channel: str) -> None:
    """Show whether a channel is connected, and why not."""
    state = client.channel_status(find_instance(client, instance)["id"], channel)
    line = "connected" if state["connected"] else "not connected"
    if reason := state["details"]["reason"]:
        line += f": {reason}"
    show_result(state, f"{channel} is {without_controls(line)}", output=output)


@channels.command("pairings")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@pass_client
def pairings(client: Client, output: Output, instance: str, channel: str) -> None:
    """List the people who wait for an approval, with their codes."""
    rows = client.channel_pairings(find_instance(client, instance)["id"], channel)
    show_list(
        rows,
        ("CODE", "SENDER", "SINCE"),
        lambda each: tuple(without_controls(each[key]) for key in ("code", "sender", "created_at")),
        output=output,
        if_empty=f"Nobody waits in {channel}.",
    )


@channels.command("pair")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@click.argument("code")
@pass_client
def pair(client: Client, instance: str, channel: str, code: str) -> None:
    """Approve the unknown sender who got this pairing CODE from the agent."""
    pairing = client.pair_channel(find_instance(client, instance)["id"], channel, code)
    say(without_controls(pairing["output"]))


@channels.command("disconnect")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("channel")
@pass_client
def disconnect(client: Client, instance: str, channel: str) -> None:
    """Disconnect a channel; OpenClaw keeps its credentials."""
    client.disconnect_channel(find_instance(client, instance)["id"], channel)
    note(f"{channel} is disconnected.")


def _ask(required: dict[str, str]) -> dict[str, str]:
    """What a person types for each field, without those that are left empty."""
    answers = {
        name: click.prompt(
            f"{name} ({what})", default="", show_default=False, hide_input=True, err=True
        )
        for name, what in required.items()
    }
    return {name: answer for name, answer in answers.items() if answer}


def _row(channel: dict[str, Any]) -> tuple[str, ...]:
    return (
        channel["channel"],
        channel["connection_type"],
        "yes" if channel["enabled"] else "no",
    )
