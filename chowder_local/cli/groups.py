"""Groups of commands, and the question before something is overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

ALIASES = {"list": "ls"}


class Group(click.Group):
    """Takes the long names of its commands, too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of that name."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def ensure_writable(path: Path, *, yes: bool) -> None:
    """Asks before a file is overwritten. Raises ClickException if there is no writing it."""
    if not path.parent.is_dir():
        raise click.ClickException(f"There is no folder {path.parent}. Make it first.")
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is there already, and is no file.")
    if path.exists() and not yes:
        click.confirm(f"{path} is there already. Overwrite it?", abort=True, err=True)
