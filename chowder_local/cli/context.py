"""What every command is given: the environment, the data directory, and from them the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chowder_local.cli.running import find_running
from chowder_local.errors.process import DataDirUnusable, ServerNotRunning
from chowder_local.invocation import program
from chowder_local.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.client import Client

Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Context:
    """The surroundings of one call of the command line."""

    env: Mapping[str, str]
    data_dir: Path | None = None

    def settings(self, **options: Any) -> Settings:
        """The settings, with a command's options winning over the environment."""
        return Settings.read(self.env, data_dir=self.data_dir, **options)

    def key(self) -> str:
        """The default organization's key. Raises ServerNotRunning before the first `up`."""
        settings = self.settings()
        try:
            return settings.default_key_file.read_text().strip()
        except FileNotFoundError:
            raise ServerNotRunning(settings.root_url) from None
        except OSError as failure:
            raise DataDirUnusable(f"The key cannot be read: {failure}") from failure

    def client(self) -> Client:
        """A client of the running server, which the caller closes. Raises ServerNotRunning."""
        from chowder_local.client import Client

        settings = self.settings()
        running = find_running(settings)
        if running is None:
            raise ServerNotRunning(settings.root_url)
        return Client(running.root_url, self.key())

    def program(self) -> str:
        """How a person calls us with this data directory."""
        return program(self.settings().data_dir, self.env.get("PATH"))


def data_dir_option(command: Command) -> Command:
    """`--data-dir`, which every command takes: before its name or after it."""

    def choose(context: click.Context, _: click.Parameter, value: Path | None) -> None:
        if value is not None:
            context.obj = replace(context.obj, data_dir=value.absolute())

    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        callback=choose,
        expose_value=False,
        help="Where the database, keys and logs are kept.  [env: CHOWDER_DATA_DIR]",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`, on whatever a script may read."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")(command)
