"""`keys`: scoped keys, with which others use some of your agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Group, confirm, output_option, yes_option
from chowder_local.cli.output import Output, format_time, note, show_list, show_result
from chowder_local.cli.resolve import choose_instance, find_key, short_id
from chowder_local.core.domain import Permission

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.client import Client


@click.group(cls=Group)
def keys() -> None:
    """List, create and revoke scoped keys.

    A scoped key has some permissions for some agents, and no others. KEY is a key's name, its id,
    or the beginning of its id.
    """


@keys.command("ls")
@output_option
@pass_client
def ls(client: Client, output: Output) -> None:
    """List all scoped keys, revoked and expired ones too."""
    show_list(
        client.keys(),
        ("ID", "NAME", "KEY", "STATE", "EXPIRES", "LAST USED"),
        _row,
        output=output,
        wide={"WHOLE ID": "id", "CREATED": "created_at"},
        if_empty="There are no scoped keys. Create one with: chowder-local keys create NAME",
    )


@keys.command("create")
@output_option
@click.argument("name")
@click.option(
    "-i",
    "--instance",
    "instances",
    multiple=True,
    required=True,
    help="Agent that the key is for: name, id, or beginning of an id. Repeatable.",
)
@click.option(
    "-p",
    "--permission",
    "permissions",
    multiple=True,
    required=True,
    type=click.Choice([str(permission) for permission in Permission]),
    help="Permission for these agents; none includes another. Repeatable.",
)
@click.option("--expires-at", type=click.DateTime(), help="When the key expires, in UTC.")
@pass_client
def create(
    client: Client,
    output: Output,
    name: str,
    instances: tuple[str, ...],
    permissions: tuple[str, ...],
    expires_at: datetime | None,
) -> None:
    """Create a scoped key and print it. It cannot be shown again."""
    all_instances = client.instances()
    ids = [choose_instance(all_instances, each)["id"] for each in instances]
    key = client.create_key(name, ids, permissions, expires_at)
    show_result(key, key["raw_key"], output=output)
    if output is not Output.JSON:
        note("Keep the key: it is not shown again.")


@keys.command("revoke")
@click.argument("key")
@yes_option
@pass_client
def revoke(client: Client, key: str, yes: bool) -> None:
    """Revoke a scoped key at once and for good, after asking."""
    scoped_key = find_key(client, key)
    if not scoped_key["is_active"]:
        note(f"{scoped_key['name']} is revoked or expired already.")
        return
    confirm(f"Revoke {scoped_key['name']} ({scoped_key['id']})?", yes=yes)
    client.revoke_key(scoped_key["id"])
    note(f"{scoped_key['name']} is revoked.")


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    return (
        short_id(key),
        key["name"],
        f"{key['key_prefix']}…",
        "active" if key["is_active"] else "inactive",
        format_time(key["expires_at"]),
        format_time(key["last_used_at"]),
    )
