"""`skills`: what an agent knows how to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.assignments import env_option, secrets, settings
from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Group, output_option
from chowder_local.cli.output import Output, note, say, show_list, show_result, without_controls
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.group(cls=Group)
def skills() -> None:
    """List, install and set up an agent's skills."""


@skills.command("ls")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.option("--ready", is_flag=True, help="Only those that the agent can use now.")
@pass_client
def ls(client: Client, output: Output, instance: str, ready: bool) -> None:
    """List an agent's skills."""
    rows = client.skills(find_instance(client, instance)["id"], eligible_only=ready)
    show_list(rows, ("NAME", "READY", "SOURCE", "WHAT IT IS FOR"), _row, output=output)


@skills.command("show")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("skill")
@pass_client
def show(client: Client, output: Output, instance: str, skill: str) -> None:
    """Show a skill and its path in the sandbox."""
    view = client.skill(find_instance(client, instance)["id"], skill)
    lines = [f"{member.capitalize():<12}{value}" for member, value in view.items()]
    show_result(view, without_controls("\n".join(lines)), output=output)


@skills.command("install")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("slug")
@env_option("Environment variable for the skill.")
@pass_client
def install(client: Client, output: Output, instance: str, slug: str, env: dict[str, str]) -> None:
    """Install a skill from ClawHub.

    SLUG is `slug`, `@owner/slug` or `skills-sh:owner/repository/slug`.
    """
    installed = client.install_skill(find_instance(client, instance)["id"], slug, env or None)
    show_result(installed, without_controls(installed["message"]), output=output)
    missing = sorted({*installed["required_env"]} - {*installed["env_applied"]})
    if missing and output is not Output.JSON:
        names = " ".join(f"-e {name}=…" for name in missing)
        note(f"It needs: chowder-local skills set {instance} {installed['skill']} {names}")


@skills.command("set")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("skill")
@click.option("--enable/--disable", "enabled", default=None, help="Whether the agent uses it.")
@click.option(
    "--api-key",
    metavar="KEY",
    callback=lambda context, parameter, text: (
        None if text is None else secrets(context, parameter, (f"key={text}",))["key"]
    ),
    help="Value of its one main variable; @FILE and @- as above, an empty text removes it.",
)
@env_option("Environment variable; an empty value removes it.")
@click.option(
    "-c",
    "--config",
    multiple=True,
    metavar="NAME=VALUE",
    callback=settings,
    help="A setting of its own; VALUE is JSON, or else a string. Repeatable.",
)
@pass_client
def set_(
    client: Client,
    instance: str,
    skill: str,
    enabled: bool | None,
    api_key: str | None,
    env: dict[str, str],
    config: dict[str, Any],
) -> None:
    """Enable, disable or set up a skill; settings are merged with the present ones."""
    given = {"enabled": enabled, "apiKey": api_key, "env": env or None, "config": config or None}
    change = {name: value for name, value in given.items() if value is not None}
    if not change:
        raise click.UsageError("Give at least one of --enable, --disable, --api-key, -e and -c.")
    client.change_skill(find_instance(client, instance)["id"], skill, **change)
    say(f"{skill} is changed.")


def _row(skill: dict[str, Any]) -> tuple[str, ...]:
    return (
        skill["name"],
        "yes" if skill["ready"] else "no",
        skill["source"],
        skill["description"],
    )
