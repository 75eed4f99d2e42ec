"""What `seed` remembers of a server, and how a person acts for an organization that it has made."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from chowder_local.core.data_dir import make_private_folder
from chowder_local.core.program_name import program
from chowder_local.core.settings import Settings

if TYPE_CHECKING:
    from chowder_local.cli.context import Context
    from chowder_local.seeding.memory import Memory


def memory_of(context: Context) -> Memory:
    """What is remembered of the context's server. Raises DataDirUnusable."""
    from chowder_local.seeding.memory import Memory

    settings = context.settings()
    file = settings.seed_file
    if (root_url := context.elsewhere()) is not None:
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


def removal(context: Context, organization: str, instance_id: str) -> str:
    """A command, to be pasted, that removes an agent of a seeded organization."""
    from chowder_local.accounts.bootstrap import NAME as DEFAULT

    remove = f"instances rm {instance_id}"
    # Without an option of its own the command heeds the environment.
    plain = program(Settings.read({}).data_dir, context.env.get("PATH"))
    own = plain if context.elsewhere() is not None else context.program()
    if organization == DEFAULT:
        return f"{own} {remove}"
    return f'(eval "$({own} env --organization {shlex.quote(organization)})" && {plain} {remove})'
