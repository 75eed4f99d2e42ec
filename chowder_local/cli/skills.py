"""`skills`: what an agent knows how to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.assignments import env_option, secrets, settings
from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.files import put_folder
from chowder_local.cli.options import Group, output_option
from chowder_local.cli.output import Output, note, say, show_list, show_result, without_controls
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.group(cls=Group)
def skills() -> None:
    """List, add, install and set up an agent's skills."""


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
    _show(client.skill(find_instance(client, instance)["id"], skill), output)


@skills.command("add")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@pass_client
def add(client: Client, output: Output, instance: str, folder: Path) -> None:
    """Add a skill of your own: a folder of this machine with a SKILL.md.

    Its files replace those of the same names in workspace/skills/ of the agent, and the agent can
    use it at once.
    """
    if not (folder / "SKILL.md").is_file():
        raise click.UsageError(f"{folder} should be a folder with a SKILL.md in it.")
    instance_id = find_instance(client, instance)["id"]
    path = f"workspace/skills/{folder.resolve().name}"
    put_folder(client, instance_id, folder, path)
    # SKILL.md may give it another name than its folder has.
    own = [each["name"] for each in client.skills(instance_id) if "workspace" in each["source"]]
    views = (client.skill(instance_id, name) for name in own)
    view = next((each for each in views if each["path"].endswith(f"/{path}/SKILL.md")), None)
    if view is None:
        raise click.ClickException(
            f"The files are in {path}, but OpenClaw does not list the skill. Begin SKILL.md with "
            "--- and the lines 'name: …', 'description: …' and ---."
        )
    _show(view, output)


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


def _show(skill: dict[str, Any], output: Output) -> None:
    lines = [f"{member.capitalize():<12}{value}" for member, value in skill.items()]
    show_result(skill, without_controls("\n".join(lines)), output=output)


def _row(skill: dict[str, Any]) -> tuple[str, ...]:
    return (
        skill["name"],
        "yes" if skill["ready"] else "no",
        skill["source"],
        skill["description"],
    )
