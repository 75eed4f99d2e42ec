"""`snapshots`: takes, lists, restores, forks and removes snapshots of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.instance_status import show_created
from chowder_local.cli.options import Group, confirm, output_option, wait_option, yes_option
from chowder_local.cli.output import Output, format_time, note, show_list, show_result, waiting
from chowder_local.cli.resolve import (
    describe_snapshot,
    find_instance,
    find_instance_id,
    find_snapshot,
    short_id,
)

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.group(cls=Group)
def snapshots() -> None:
    """List, take, restore and remove snapshots of agents.

    SNAPSHOT is a snapshot's name, its id, or the beginning of its id; INSTANCE likewise. If
    snapshots of several agents have one name, `restore` uses the agent's own.
    """


@snapshots.command("ls")
@output_option
@click.argument("instance", required=False, shell_complete=complete_instance)
@pass_client
def ls(client: Client, output: Output, instance: str | None) -> None:
    """List all snapshots, or those of INSTANCE."""
    rows, names = client.snapshots(find_instance_id(client, instance)), {}
    if output is not Output.JSON:
        names = {each["id"]: each["name"] for each in client.instances()}

    def row(snapshot: dict[str, Any]) -> tuple[str, ...]:
        return (
            short_id(snapshot),
            snapshot["name"] or "",
            names.get(snapshot["instance_id"], "(gone)"),
            f"{snapshot['size_bytes'] / 1e6:.1f}",
            format_time(snapshot["created_at"]),
        )

    show_list(
        rows,
        ("ID", "NAME", "OF", "MB", "TAKEN"),
        row,
        output=output,
        wide={"WHOLE ID": "id", "INSTANCE": "instance_id"},
        if_empty="There are no snapshots. Take one with: chowder-local snapshots create INSTANCE",
    )


@snapshots.command("create")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("name", required=False)
@pass_client
def create(client: Client, output: Output, instance: str, name: str | None) -> None:
    """Take a snapshot of an agent: its conversations, files and configuration.

    No other snapshot of the agent may have the same NAME.
    """
    agent = find_instance(client, instance)
    for each in client.snapshots(agent["id"]) if name else ():
        if each["name"] == name:
            raise click.ClickException(
                f"{agent['name']} has a snapshot {name!r} already ({describe_snapshot(each)}). "
                "Choose another name, or remove that one first."
            )
    with waiting(f"Copying {agent['name']}"):
        snapshot = client.take_snapshot(agent["id"], name)
    show_result(snapshot, snapshot["id"], output=output)


@snapshots.command("rm")
@click.argument("snapshot")
@yes_option
@pass_client
def rm(client: Client, snapshot: str, yes: bool) -> None:
    """Remove a snapshot, after asking; agents that were made of it stay."""
    old = find_snapshot(client, snapshot)
    name = f"{old['name']} " if old["name"] else ""
    confirm(f"Remove the snapshot {name}({describe_snapshot(old)})?", yes=yes)
    client.delete_snapshot(old["id"])
    note(f"{old['name'] or old['id']} is removed.")


@snapshots.command("restore")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("snapshot")
@yes_option
@wait_option
@pass_client
def restore(
    client: Client, output: Output, instance: str, snapshot: str, yes: bool, wait: bool
) -> None:
    """Restore an agent to a snapshot, after asking; all changes since then are lost."""
    agent = find_instance(client, instance)
    source = find_snapshot(client, snapshot, agent["id"])
    confirm(
        f"Restore {agent['name']} ({agent['id']}) to the snapshot of "
        f"{format_time(source['created_at'])}? All changes since then are lost.",
        yes=yes,
    )
    restored = client.restore(agent["id"], source["id"])
    show_created(client, restored, output=output, wait=wait)


@snapshots.command("fork")
@output_option
@click.argument("snapshot")
@click.argument("name")
@wait_option
@pass_client
def fork(client: Client, output: Output, snapshot: str, name: str, wait: bool) -> None:
    """Create an agent from a snapshot."""
    copy = client.fork_snapshot(find_snapshot(client, snapshot)["id"], name)
    show_created(client, copy, output=output, wait=wait)
