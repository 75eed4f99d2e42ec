"""`snapshots`: agents as they were, to be restored or made anew."""

from __future__ import annotations

from typing import Any

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import Group, yes_option
from chowder_local.cli.instances import WAIT_TIMEOUT_S, show_made
from chowder_local.cli.output import note, say, show_json, show_table, waiting
from chowder_local.cli.resolve import SHOWN_ID_LENGTH, find_instance, find_snapshot, snapshot_words


@click.group(cls=Group)
@data_dir_option
def snapshots() -> None:
    """List, take, restore and remove snapshots of agents.

    SNAPSHOT is a snapshot's name, its id, or the beginning of its id; INSTANCE likewise. To restore
    an agent, its own snapshot wins over another agent's of the same name.
    """


@snapshots.command("ls")
@data_dir_option
@json_option
@click.argument("instance", required=False)
@click.pass_obj
def ls(context: Context, as_json: bool, instance: str | None) -> None:
    """List all snapshots, or those of INSTANCE."""
    with context.client() as client:
        of = None if instance is None else find_instance(client, instance)["id"]
        found, names = client.snapshots(of), {}
        if not as_json:
            names = {each["id"]: each["name"] for each in client.instances()}
    if as_json:
        show_json(found)
        return
    if not found:
        note("There are no snapshots. Take one with: chowder-local snapshots create INSTANCE")
        return
    show_table(
        ("ID", "NAME", "OF", "MB", "TAKEN"),
        [
            (
                each["id"][:SHOWN_ID_LENGTH],
                each["name"] or "",
                names.get(each["instance_id"], "(gone)"),
                f"{each['size_bytes'] / 1e6:.1f}",
                each["created_at"][:16].replace("T", " "),
            )
            for each in found
        ],
    )


@snapshots.command("create")
@data_dir_option
@json_option
@click.argument("instance")
@click.argument("name", required=False)
@click.pass_obj
def create(context: Context, as_json: bool, instance: str, name: str | None) -> None:
    """Keep an agent as it is now: its conversations, files and configuration.

    NAME is one that no other snapshot of the agent has.
    """
    with context.client() as client:
        found = find_instance(client, instance)
        for each in client.snapshots(found["id"]) if name else ():
            if each["name"] == name:
                raise click.ClickException(
                    f"{found['name']} has a snapshot {name!r} already ({snapshot_words(each)}). "
                    "Choose another name, or remove that one first."
                )
        with waiting(f"{found['name']} is copied"):
            made = client.take_snapshot(found["id"], name)
    _show(made, as_json)


@snapshots.command("rm")
@data_dir_option
@click.argument("snapshot")
@yes_option
@click.pass_obj
def rm(context: Context, snapshot: str, yes: bool) -> None:
    """Remove a snapshot, after asking; agents that were made of it stay."""
    with context.client() as client:
        found = find_snapshot(client, snapshot)
        if not yes:
            question = f"Remove the snapshot {found['name'] or ''} ({snapshot_words(found)})?"
            click.confirm(question.replace("  ", " "), abort=True, err=True)
        client.delete_snapshot(found["id"])
    note(f"{found['name'] or found['id']} is removed.")


@snapshots.command("restore")
@data_dir_option
@json_option
@click.argument("instance")
@click.argument("snapshot")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--wait/--no-wait", default=True, help="Return once it is running (the default).")
@click.pass_obj
def restore(
    context: Context, as_json: bool, instance: str, snapshot: str, yes: bool, wait: bool
) -> None:
    """Make an agent what it was; what it has become since is gone, after asking."""
    with context.client() as client:
        found = find_instance(client, instance)
        wanted = find_snapshot(client, snapshot, found["id"])
        if not yes:
            question = f"Give up what {found['name']} ({found['id']}) has become since?"
            click.confirm(question, abort=True, err=True)
        restored = client.restore(found["id"], wanted["id"])
        show_made(client, restored, as_json=as_json, wait=wait, timeout=WAIT_TIMEOUT_S)


@snapshots.command("fork")
@data_dir_option
@json_option
@click.argument("snapshot")
@click.argument("name")
@click.option("--wait/--no-wait", default=True, help="Return once it is running (the default).")
@click.pass_obj
def fork(context: Context, as_json: bool, snapshot: str, name: str, wait: bool) -> None:
    """Make a new agent that is as the snapshot is."""
    with context.client() as client:
        made = client.fork_snapshot(find_snapshot(client, snapshot)["id"], name)
        show_made(client, made, as_json=as_json, wait=wait, timeout=WAIT_TIMEOUT_S)


def _show(snapshot: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(snapshot)
    else:
        say(snapshot["id"])
