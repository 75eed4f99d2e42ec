"""`organization`: the owner of instances, with its model keys and its tier."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Group, confirm, output_option, yes_option
from chowder_local.cli.output import Output, note, show_result
from chowder_local.core.domain import ModelProvider, Tier

if TYPE_CHECKING:
    from chowder_local.client import Client

provider_argument = click.argument(
    "provider", type=click.Choice([str(provider) for provider in ModelProvider])
)


@click.group(cls=Group)
def organization() -> None:
    """Show and change the organization: its name, model keys and tier."""


@organization.command("show")
@output_option
@pass_client
def show(client: Client, output: Output) -> None:
    """Show the organization that the key belongs to."""
    _show(client.organization(), output)


@organization.command("rename")
@output_option
@click.argument("name")
@pass_client
def rename(client: Client, output: Output, name: str) -> None:
    """Give the organization another name."""
    _show(client.rename_organization(name), output)


@organization.command("set-key")
@output_option
@provider_argument
@click.option("--offline", is_flag=True, help="Use the offline model for this provider.")
@pass_client
def set_key(client: Client, output: Output, provider: str, offline: bool) -> None:
    """Set the key of a model provider, which is read from the terminal or standard input.

    It is stored encrypted, and never shown or put into a sandbox.
    """
    _show(client.set_model_keys({provider: "offline" if offline else _read_key(provider)}), output)


@organization.command("remove-key")
@output_option
@provider_argument
@yes_option
@pass_client
def remove_key(client: Client, output: Output, provider: str, yes: bool) -> None:
    """Remove the key of a model provider, after asking."""
    confirm(f"Remove the key of {provider}?", yes=yes)
    _show(client.set_model_keys({provider: ""}), output)


@organization.command("tier")
@output_option
@click.argument("tier", required=False, type=click.Choice([str(tier) for tier in Tier]))
@pass_client
def tier(client: Client, output: Output, tier: str | None) -> None:
    """Show the tier and what is used of it, or move to another one. Nothing is paid."""
    view = client.subscription() if tier is None else client.set_tier(tier)
    show_result(view, f"{view['tier']}: {_use(view)}", output=output)


@organization.command("create")
@output_option
@click.argument("name")
@pass_client
def create(client: Client, output: Output, name: str) -> None:
    """Sign up another organization and print its key. It cannot be shown again."""
    signup = client.signup(name)
    show_result(signup, signup["api_key"], output=output)
    if output is not Output.JSON:
        note("Keep the key: it is not shown again. As CHOWDER_KEY, it chooses this organization.")


def _read_key(provider: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Key of {provider}", hide_input=True, err=True)).strip()
    key = sys.stdin.readline().strip()
    if not key:
        # An empty one would remove the key that is set.
        raise click.UsageError("There is no key on standard input.")
    return key


def _use(view: dict[str, Any]) -> str:
    limit = view["instance_limit"]
    return f"{view['instance_count']} of {'any number of' if limit is None else limit} instances"


def _show(view: dict[str, Any], output: Output) -> None:
    # The answer to a change does not say.
    offline = view.get("offline_providers", ())

    def describe(provider: str) -> str:
        return f"{provider} (offline)" if provider in offline else provider

    lines = (
        f"Name         {view['name']}",
        f"Id           {view['id']}",
        f"Model keys   {', '.join(map(describe, view['model_providers'])) or 'none'}",
        f"Tier         {view['subscription_tier']}: {_use(view)}",
    )
    show_result(view, "\n".join(lines), output=output)
