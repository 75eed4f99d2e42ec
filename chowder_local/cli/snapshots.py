"""`snapshots`: agents as they were, to be restored or made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import pass_client
from chowder_local.cli.instances import show_made
from chowder_local.cli.options import Group, confirm, json_option, wait_option, yes_option
from chowder_local.cli.output import format_time, note, show_list, show_result, waiting
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

    SNAPSHOT is a snapshot's name, its id, or the beginning of its id; INSTANCE likewise. To restore
    an agent, its own snapshot wins over another agent's of the same name.
    """


@snapshots.command("ls")
@json_option
@click.argument("instance", required=False)
@pass_client
def ls(client: Client, as_json: bool, instance: str | None) -> None:
    """List all snapshots, or those of INSTANCE."""
    found, names = client.snapshots(find_instance_id(client, instance)), {}
    if not as_json:
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
        found,
        ("ID", "NAME", "OF", "MB", "TAKEN"),
        row,
        as_json=as_json,
        if_empty="There are no snapshots. Take one with: chowder-local snapshots create INSTANCE",
    )


@snapshots.command("create")
@json_option
@click.argument("instance")
@click.argument("name", required=False)
@pass_client
def create(client: Client, as_json: bool, instance: str, name: str | None) -> None:
    """Keep an agent as it is now: its conversations, files and configuration.

    NAME is one that no other snapshot of the agent has.
    """
    found = find_instance(client, instance)
    for each in client.snapshots(found["id"]) if name else ():
        if each["name"] == name:
            raise click.ClickException(
                f"{found['name']} has a snapshot {name!r} already ({describe_snapshot(each)}). "
                "Choose another name, or remove that one first."
            )
    with waiting(f"{found['name']} is copied"):
        made = client.take_snapshot(found["id"], name)
    show_result(made, made["id"], as_json=as_json)


@snapshots.command("rm")
@click.argument("snapshot")
@yes_option
@pass_client
def rm(client: Client, snapshot: str, yes: bool) -> None:
    """Remove a snapshot, after asking; agents that were made of it stay."""
    found = find_snapshot(client, snapshot)
    if not yes:
        question = f"Remove the snapshot {found['name'] or ''} ({describe_snapshot(found)})?"
        click.confirm(question.replace("  ", " "), abort=True, err=True)
    client.delete_snapshot(found["id"])
    note(f"{found['name'] or found['id']} is removed.")


@snapshots.command("restore")
@json_option
@click.argument("instance")
@click.argument("snapshot")
@yes_option
@wait_option
@pass_client
def restore(
    client: Client, as_json: bool, instance: str, snapshot: str, yes: bool, wait: bool
) -> None:
    """Make an agent what it was; what it has become since is gone, after asking."""
    found = find_instance(client, instance)
    wanted = find_snapshot(client, snapshot, found["id"])
    confirm(f"Give up what {found['name']} ({found['id']}) has become since?", yes=yes)
    restored = client.restore(found["id"], wanted["id"])
    show_made(client, restored, as_json=as_json, wait=wait)


@snapshots.command("fork")
@json_option
@click.argument("snapshot")
@click.argument("name")
@wait_option
@pass_client
def fork(client: Client, as_json: bool, snapshot: str, name: str, wait: bool) -> None:
    """Make a new agent that is as the snapshot is."""
    made = client.fork_snapshot(find_snapshot(client, snapshot)["id"], name)
    show_made(client, made, as_json=as_json, wait=wait)
