"""`keys`, `organization`: who may use agents, and with which model keys."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import Row, choose_instance, find_key, noun, short_id
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import confirm, yes_option
from chowder_local.cli.output import ask, at, note
from chowder_local.core.domain import ModelProvider, Permission, Tier

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.client import Client


def _create_key(
    client: Client,
    name: str,
    instances: tuple[str, ...],
    permissions: tuple[str, ...],
    expires_at: datetime | None,
) -> dict[str, Any]:
    listed = client.instances()
    ids = [choose_instance(listed, each)["id"] for each in instances]
    return client.create_key(name, ids, permissions, expires_at)


# fmt: off
keys = noun("keys", """List, create and revoke scoped keys.

    A scoped key has some permissions for some agents, and no others. KEY is a key's name, its id,
    or the beginning of its id.
    """, {
    "ls": Row("keys", "", "List all scoped keys, revoked and expired ones too.",
        columns={
            "ID": short_id, "NAME": "name", "KEY": lambda key: f"{key['key_prefix']}…",
            "STATE": lambda key: "active" if key["is_active"] else "inactive",
            "EXPIRES": at("expires_at"), "LAST USED": at("last_used_at"),
        }, wide={"WHOLE ID": "id", "CREATED": "created_at"},
        if_empty="There are no scoped keys. Create one with: chowder-local keys create NAME"),
    "create": Row(_create_key, "name",
        "Create a scoped key and print it. It cannot be shown again.",
        options=(
            click.option("-i", "--instance", "instances", multiple=True, required=True,
                help="Agent that the key is for: name, id, or beginning of an id. Repeatable."),
            click.option("-p", "--permission", "permissions", multiple=True, required=True,
                type=click.Choice([str(permission) for permission in Permission]),
                help="Permission for these agents; none includes another. Repeatable."),
            click.option("--expires-at", type=click.DateTime(),
                help="When the key expires, in UTC."),
        ), line="{raw_key}", note="Keep the key: it is not shown again."),
})
# fmt: on


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


def _use(view: dict[str, Any]) -> str:
    limit = view["instance_limit"]
    return f"{view['instance_count']} of {'any number of' if limit is None else limit} instances"


def _describe(view: dict[str, Any]) -> list[str]:
    # The answer to a change does not say which providers are offline.
    offline = view.get("offline_providers", ())
    keys = [f"{each} (offline)" if each in offline else each for each in view["model_providers"]]
    return [
        f"Name         {view['name']}",
        f"Id           {view['id']}",
        f"Model keys   {', '.join(keys) or 'none'}",
        f"Tier         {view['subscription_tier']}: {_use(view)}",
    ]


def _read_key(provider: str) -> str:
    if sys.stdin.isatty():
        return ask(f"Key of {provider}", hide_input=True).strip()
    key = sys.stdin.readline().strip()
    if not key:
        # An empty key would remove the key that is set.
        raise click.UsageError("There is no key on standard input.")
    return key


def _set_key(client: Client, provider: str, offline: bool) -> dict[str, Any]:
    return client.set_model_keys({provider: "offline" if offline else _read_key(provider)})


def _choose_tier(client: Client, tier: str | None) -> dict[str, Any]:
    return client.subscription() if tier is None else client.set_tier(tier)


CHOOSES = "Keep the key: it is not shown again. As CHOWDER_KEY, it chooses this organization."
provider_argument = click.argument("provider", type=click.Choice([*map(str, ModelProvider)]))
# fmt: off
organization = noun("organization",
    "Show and change the organization: its name, model keys and tier.", {
    "show": Row("organization", "", "Show the organization that the key belongs to.",
        line=_describe),
    "rename": Row("rename_organization", "name", "Give the organization another name.",
        line=_describe),
    "create": Row("signup", "name",
        "Sign up another organization and print its key. It cannot be shown again.",
        line="{api_key}", note=CHOOSES),
    "set-key": Row(_set_key, "",
        """Set the key of a model provider, which is read from the terminal or standard input.

        It is stored encrypted, and never shown or put into a sandbox.
        """,
        options=(
            provider_argument,
            click.option("--offline", is_flag=True,
                help="Use the offline model for this provider."),
        ), line=_describe),
    "remove-key": Row(lambda client, provider: client.set_model_keys({provider: ""}), "",
        "Remove the key of a model provider, after asking.", options=(provider_argument,),
        asks="Remove the key of {provider}?", line=_describe),
    "tier": Row(_choose_tier, "",
        "Show the tier and what is used of it, or move to another one. Nothing is paid.",
        options=(click.argument("tier", required=False, type=click.Choice([*map(str, Tier)])),),
        line=lambda view: f"{view['tier']}: {_use(view)}"),
})
# fmt: on
