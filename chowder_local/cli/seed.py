"""`seed`: a server brought to what a file declares."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import Command
from chowder_local.cli.output import note, say, show_json, waiting
from chowder_local.core.data_dir import make_private_folder
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.program_name import program
from chowder_local.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.cli.context import Context
    from chowder_local.seeding.memory import Memory
    from chowder_local.seeding.run import Seeded, SeedFile

SEED_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("file", type=SEED_PATH)
@click.option(
    "--output",
    type=click.Choice(["env", "json"]),
    help="Print ids and keys of what is declared: as lines for eval, or for a script.",
)
@click.pass_obj
def seed(context: Context, file: Path, output: str | None) -> None:
    """Bring the server to what FILE (YAML or JSON) declares.

    Organizations, agents, files, skills, messages, scoped keys: what is not there is made, what
    differs is changed, and what the file does not name is left alone. Once all is there, another
    run changes nothing.
    """
    seeded = seed_server(context, read_file(context, file))
    if output == "json":
        show_json(seeded.declared)
    elif output == "env":
        for name, value in env_of(seeded.declared).items():
            say(f"export {name}={shlex.quote(value)}")


def read_file(context: Context, file: Path) -> SeedFile:
    """A seed file that makes sense. Raises SettingsInvalid."""
    from chowder_local.seeding.run import read_seed

    return read_seed(file, context.env)


def seed_server(context: Context, file: SeedFile) -> Seeded:
    """Seeds the running server, and says how. Raises ServerNotRunning, SettingsInvalid."""
    from chowder_local.seeding.run import seed
    from chowder_local.seeding.target import SeedTarget

    is_own = context.other_server() is None
    # `default` in a file is the default organization, whatever key the environment has.
    key = context.for_data_dir().key() if is_own else context.key()
    root_url, base_url, memory = context.root_url(), context.base_url(), memory_of(context)
    removal = partial(removal_command, context)
    with (
        waiting("Looking at what is there") as update,
        SeedTarget(root_url, key, memory, update, public_url=base_url, removal=removal) as target,
    ):
        seeded = seed(file, target, update)
    steps = f"{seeded.step_count} {'step' if seeded.step_count == 1 else 'steps'}"
    note(f"Seeded in {steps}." if seeded.step_count else "All is there: nothing was changed.")
    return seeded


def env_of(declared: Mapping[str, Any]) -> dict[str, str]:
    """Variables for what is declared. Raises SettingsInvalid if two would be called the same."""
    found: dict[str, str] = {}
    for name, value in _variables(declared):
        if name in found:
            raise SettingsInvalid(f"{name} would stand for two things: take --output json.")
        found[name] = value
    return found


def memory_of(context: Context) -> Memory:
    """What is remembered of the context's server. Raises DataDirUnusable."""
    from chowder_local.seeding.memory import Memory

    settings = context.settings()
    file = settings.seed_file
    if (root_url := context.other_server()) is not None:
        make_private_folder(settings.data_dir)
        # Another server's organizations, of the same names perhaps.
        file = file.with_name(f"seed-{re.sub(r'[^A-Za-z0-9.]+', '-', root_url)}.json")
    return Memory(file)


def seeded_key(context: Context, organization: str) -> str:
    """The key of an organization. Raises click.ClickException if `seed` has made none so called."""
    from chowder_local.accounts.bootstrap import NAME as DEFAULT

    if organization == DEFAULT:
        return context.key()
    kept = memory_of(context).organizations.get(organization)
    if kept is None or kept.key is None:
        raise click.ClickException(
            f"'seed' has made no organization {organization!r} on this server, by "
            f"{context.settings().data_dir}."
        )
    return kept.key


def removal_command(context: Context, organization: str, instance_id: str) -> str:
    """A command, to be pasted, that removes an agent of a seeded organization."""
    from chowder_local.accounts.bootstrap import NAME as DEFAULT

    remove = f"instances rm {instance_id}"
    # Without an option of its own the command heeds the environment.
    plain = program(Settings.read({}).data_dir, context.env.get("PATH"))
    own = plain if context.other_server() is not None else context.program()
    if organization == DEFAULT:
        return f"{own} {remove}"
    return f'(eval "$({own} env --organization {shlex.quote(organization)})" && {plain} {remove})'


def _variables(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "SEED_BASE_URL", declared["base_url"]
    for organization in declared["organizations"]:
        prefix = f"SEED_{_variable_part(organization['name'])}"
        yield f"{prefix}_ID", organization["id"]
        yield f"{prefix}_KEY", organization["key"]
        for instance in organization["instances"]:
            yield f"{prefix}_INSTANCE_{_variable_part(instance['name'])}", instance["id"]
        for key in organization["keys"]:
            yield f"{prefix}_KEY_{_variable_part(key['name'])}", key["key"]


def _variable_part(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII).upper()
