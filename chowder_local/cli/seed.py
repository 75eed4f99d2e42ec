"""`seed`: brings a server to the state that a file declares."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import Command
from chowder_local.cli.output import count_of, note, say, show_json, waiting
from chowder_local.core.data_dir import make_private_folder
from chowder_local.core.data_dir_layout import default_data_dir
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.wording import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.cli.context import Context
    from chowder_local.core.data_dir_layout import DataDirLayout
    from chowder_local.seeding.desired_state import Document
    from chowder_local.seeding.home import FileIndex
    from chowder_local.seeding.run import SeedResult
    from chowder_local.seeding.target import Memory

_OTHERS = "seed-"
SEED_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("file", type=SEED_PATH)
@click.option(
    "--output",
    type=click.Choice(["env", "json"]),
    help="Print the declared ids and keys: as lines for eval, or as JSON for a script.",
)
@click.pass_obj
def seed(context: Context, file: Path, output: str | None) -> None:
    """Bring the server to the state that FILE (YAML or JSON) declares.

    Organizations, agents, files, skills, messages and scoped keys that are missing are made, those
    that differ are changed, and what the file does not name is left alone. A second run changes
    nothing.
    """
    result = seed_server(context, read_file(context, file))
    if output == "json":
        show_json(result.declared)
    elif output == "env":
        for name, value in shell_variables(result.declared).items():
            say(f"export {name}={shlex.quote(value)}")


def read_file(context: Context, file: Path) -> Document:
    """Reads a seed file. Raises SettingsInvalid if it is invalid."""
    from chowder_local.seeding.desired_state import read_seed

    return read_seed(file, context.env)


def seed_server(context: Context, file: Document, index: FileIndex | None = None) -> SeedResult:
    """Seeds the running server, and notes the number of steps.

    With an `index`, files that their listings show unchanged are not read again.

    Raises ServerNotRunning, and SettingsInvalid if a step is impossible or refused.
    """
    from chowder_local.seeding.run import seed
    from chowder_local.seeding.target import SeedTarget

    is_own = context.other_server() is None
    # `default` in a file is the default organization, whatever key the environment has.
    key = context.for_data_dir().key() if is_own else context.key()
    root_url, base_url, memory = context.root_url(), context.base_url(), open_memory(context)
    removal = partial(removal_command, context)
    with (
        waiting("Reading the state of the server") as update,
        SeedTarget(
            root_url, key, memory, update, public_url=base_url, removal=removal, index=index
        ) as target,
    ):
        result = seed(file, target, update)
    if result.step_count:
        note(f"Seeded in {count_of(result.step_count, 'step')}.")
    else:
        note("The server is as declared: nothing was changed.")
    return result


def shell_variables(declared: Mapping[str, Any]) -> dict[str, str]:
    """Shell variables for the declared ids and keys.

    Raises SettingsInvalid if two would have one name.
    """
    variables: dict[str, str] = {}
    for name, value in _variables(declared):
        if name in variables:
            raise SettingsInvalid(f"{name} would have two values. Use --output json.")
        variables[name] = value
    return variables


def open_memory(context: Context, other_url: str | None = None) -> Memory:
    """The memory of earlier seedings of the server, or of the one at `other_url`, without `/v1`.

    Raises DataDirUnusable if it is unreadable.
    """
    from chowder_local.seeding.target import Memory

    settings = context.settings()
    file = settings.seed_file
    if (root_url := other_url or context.other_server()) is not None:
        make_private_folder(settings.data_dir)
        # Organizations of another server may have the same names.
        file = file.with_name(f"{_OTHERS}{re.sub(r'[^A-Za-z0-9.]+', '-', root_url)}.json")
    return Memory(file)


def other_memories(settings: DataDirLayout) -> list[Path]:
    """The memories of other servers, which have the only copies of keys of theirs."""
    return sorted(settings.data_dir.glob(f"{_OTHERS}*.json"))


def organization_key(context: Context, organization: str) -> str:
    """The key of a seeded organization. Raises click.ClickException if `seed` did not make it."""
    from chowder_local.accounts.bootstrap import NAME as DEFAULT

    if organization == DEFAULT:
        return context.key()
    stored = open_memory(context).organizations.get(organization)
    if stored is None or stored.key is None:
        raise click.ClickException(
            f"'seed' has not made an organization {organization!r} on this server from the data "
            f"directory {context.settings().data_dir}."
        )
    return stored.key


def removal_command(context: Context, organization: str, instance_id: str) -> str:
    """The shell command that removes an agent of a seeded organization."""
    from chowder_local.accounts.bootstrap import NAME as DEFAULT

    remove = f"instances rm {instance_id}"
    # Without --data-dir the command uses the variables of the environment.
    plain = program(default_data_dir(), context.env.get("PATH"))
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
