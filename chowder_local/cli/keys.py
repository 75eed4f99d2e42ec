"""`keys`: what others may do with your agents, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import Group
from chowder_local.cli.output import note, say, show_json, show_table
from chowder_local.cli.resolve import SHOWN_ID_LENGTH, choose_instance, find_key
from chowder_local.core.domain import Permission

if TYPE_CHECKING:
    from datetime import datetime


@click.group(cls=Group)
@data_dir_option
def keys() -> None:
    """List, create and revoke scoped keys.

    A scoped key is for some agents and some things to do with them, and for nothing else. KEY is a
    key's name, its id, or the beginning of its id.
    """


@keys.command("ls")
@data_dir_option
@json_option
@click.pass_obj
def ls(context: Context, as_json: bool) -> None:
    """List all scoped keys, revoked and expired ones too."""
    with context.client() as client:
        found = client.keys()
    if as_json:
        show_json(found)
        return
    if not found:
        note("There are no scoped keys. Create one with: chowder-local keys create NAME")
        return
    show_table(
        ("ID", "NAME", "KEY", "STATE", "EXPIRES", "LAST USED"),
        [
            (
                each["id"][:SHOWN_ID_LENGTH],
                each["name"],
                f"{each['key_prefix']}…",
                "active" if each["is_active"] else "inactive",
                _moment(each["expires_at"]),
                _moment(each["last_used_at"]),
            )
            for each in found
        ],
    )


@keys.command("create")
@data_dir_option
@json_option
@click.argument("name")
@click.option(
    "-i",
    "--instance",
    "instances",
    multiple=True,
    required=True,
    help="Agent that it is for: name, id, or beginning of an id. Repeatable.",
)
@click.option(
    "-p",
    "--permission",
    "permissions",
    multiple=True,
    required=True,
    type=click.Choice([str(permission) for permission in Permission]),
    help="What it may do; one grants no other. Repeatable.",
)
@click.option("--expires-at", type=click.DateTime(), help="When it ends by itself, in UTC.")
@click.pass_obj
def create(
    context: Context,
    as_json: bool,
    name: str,
    instances: tuple[str, ...],
    permissions: tuple[str, ...],
    expires_at: datetime | None,
) -> None:
    """Create a scoped key and print it: it cannot be shown again."""
    with context.client() as client:
        all_instances = client.instances()
        ids = [choose_instance(all_instances, wanted)["id"] for wanted in instances]
        made = client.create_key(name, ids, permissions, expires_at)
    if as_json:
        show_json(made)
    else:
        say(made["raw_key"])
        note("Keep it: it is not shown again.")


@keys.command("revoke")
@data_dir_option
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def revoke(context: Context, key: str, yes: bool) -> None:
    """End a scoped key at once and for good, after asking."""
    with context.client() as client:
        found = find_key(client, key)
        if not found["is_active"]:
            note(f"{found['name']} is revoked or expired already.")
            return
        if not yes:
            question = f"Revoke {found['name']} ({found['id']})?"
            click.confirm(question, abort=True, err=True)
        client.revoke_key(found["id"])
    note(f"{found['name']} is revoked.")


def _moment(time: str | None) -> str:
    return "-" if time is None else time[:16].replace("T", " ")
