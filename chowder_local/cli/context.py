"""What every command is given: the environment, the data directory, and from them the rest."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import update_wrapper
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import click

from chowder_local.cli.output import note
from chowder_local.cli.server_process import RunningServer, find_last, find_running
from chowder_local.core.errors.process import (
    ApiRefused,
    DataDirUnusable,
    ServerElsewhere,
    ServerNotRunning,
    SettingsInvalid,
)
from chowder_local.core.program_name import program
from chowder_local.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.client import Client

Params = ParamSpec("Params")
Result = TypeVar("Result")

PORTS = {"http": 80, "https": 443}
BASE_URL, KEY, KEY_FILE = "CHOWDER_BASE_URL", "CHOWDER_KEY", "CHOWDER_KEY_FILE"


@dataclass(frozen=True)
class Context:
    """The surroundings of one call of the command line.

    `data_dir` is that of the option `--data-dir`. It wins over CHOWDER_BASE_URL and CHOWDER_KEY,
    and they win over CHOWDER_DATA_DIR.
    """

    env: Mapping[str, str]
    data_dir: Path | None = None

    def settings(self, **options: Any) -> Settings:
        """The settings, with a command's options winning over the environment."""
        return Settings.read(self.env, data_dir=self.data_dir, **options)

    def for_data_dir(self) -> Context:
        """The same for the server of the data directory, whatever CHOWDER_BASE_URL names."""
        return replace(self, data_dir=self.settings().data_dir)

    def other_server(self) -> str | None:
        """The root URL in CHOWDER_BASE_URL, unless that is the data directory's own server.

        Raises SettingsInvalid if it is no URL.
        """
        named = self._named(BASE_URL)
        if named is None:
            return None
        root_url = named.rstrip("/").removesuffix("/v1")
        settings = self.settings()
        # What a shell has of a server that has ended since is not another server's.
        last = find_last(settings)
        own = [settings.root_url] if last is None else [last.root_url, last.public_url]
        return None if _address(root_url) in map(_address, own) else root_url

    def require_local(self, command: str) -> None:
        """Raises ServerElsewhere if CHOWDER_BASE_URL names another server than the command's."""
        if (root_url := self.other_server()) is not None:
            raise ServerElsewhere(command, root_url, str(self.settings().data_dir))

    def running(self) -> RunningServer:
        """The server of the data directory. Raises ServerNotRunning."""
        settings = self.settings()
        running = find_running(settings)
        if running is None:
            raise ServerNotRunning(settings.root_url)
        return running

    def root_url(self) -> str:
        """Where the server is called, without `/v1`. Raises ServerNotRunning."""
        return self.other_server() or self.running().root_url

    def base_url(self) -> str:
        """What clients are pointed at, with `/v1`. Raises ServerNotRunning."""
        other_url = self.other_server()
        return self.running().base_url if other_url is None else f"{other_url}/v1"

    def key(self) -> str:
        """The key of the calls: CHOWDER_KEY, or else the default organization's.

        Raises ServerNotRunning before the first `up`, and SettingsInvalid for another server's key
        that is not named.
        """
        if (named := self._named(KEY)) is not None:
            return named
        root_url = self.other_server()
        # A data directory's key is not for any other server to see.
        if root_url is not None and self._named(KEY_FILE) is None:
            raise SettingsInvalid(
                f"{BASE_URL} names {root_url}, for which there is no key: set {KEY}, or {KEY_FILE}."
            )
        settings = self.settings()
        try:
            return settings.default_key_file.read_text().strip()
        except FileNotFoundError:
            raise ServerNotRunning(settings.root_url) from None
        except OSError as failure:
            raise DataDirUnusable(f"The key cannot be read: {failure}") from failure

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the server. Raises ServerNotRunning; says whose key was refused."""
        from chowder_local.client import Client

        with Client(self.root_url(), self.key()) as client:
            try:
                yield client
            except ServerNotRunning:
                if self.other_server() is not None:
                    note(f"{BASE_URL} names that server; unset it for the one of this machine.")
                raise
            except ApiRefused as refused:
                if refused.status == HTTPStatus.UNAUTHORIZED and self._named(KEY) is not None:
                    note(f"The key is that in {KEY}; unset it for the default organization's.")
                raise

    def program(self) -> str:
        """How a person calls us with this data directory."""
        return program(self.settings().data_dir, self.env.get("PATH"))

    def _named(self, name: str) -> str | None:
        return None if self.data_dir is not None else self.env.get(name, "").strip() or None


def _address(root_url: str) -> tuple[str, str, int]:
    """What two URLs have in common that lead to the same server. Raises SettingsInvalid."""
    try:
        parts = urlsplit(root_url)
        host, usual = parts.hostname or "", PORTS[parts.scheme]
        port = parts.port or usual
    except (ValueError, KeyError):
        host, port = "", 0
    if not host:
        raise SettingsInvalid(f"{BASE_URL} is no URL such as http://127.0.0.1:2469/v1.")
    return root_url.partition(":")[0], {"localhost": "127.0.0.1"}.get(host, host), port


def pass_client(
    command: Callable[Concatenate[Client, Params], Result],
) -> Callable[Params, Result]:
    """Calls a command with a client of the server, in place of the context."""

    @click.pass_obj
    def call(context: Context, /, *arguments: Params.args, **options: Params.kwargs) -> Result:
        with context.client() as client:
            return command(client, *arguments, **options)

    return update_wrapper(call, command)
