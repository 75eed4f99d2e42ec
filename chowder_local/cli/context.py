"""The context of a command: its environment, data directory, server and key."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import update_wrapper
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import click

from chowder_local.cli.output import note
from chowder_local.cli.run_file import RunningServer, find_last, find_running
from chowder_local.core.data_dir_layout import (
    CLIENT_NAMES,
    DATA_DIR,
    KEY_FILE,
    PREFIX,
    DataDir,
)
from chowder_local.core.errors.process import (
    ApiRefused,
    DataDirUnusable,
    ServerElsewhere,
    ServerNotRunning,
    SettingsInvalid,
)
from chowder_local.core.wording import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.client import Client
    from chowder_local.core.settings import Settings

Params = ParamSpec("Params")
Result = TypeVar("Result")

DEFAULT_PORTS = {"http": 80, "https": 443}
BASE_URL, KEY = "CHOWDER_BASE_URL", "CHOWDER_KEY"


@dataclass(frozen=True)
class Context:
    """The environment and the data directory of one command.

    `data_dir` is the value of `--data-dir`. It wins over CHOWDER_BASE_URL and CHOWDER_KEY, and they
    win over CHOWDER_DATA_DIR.
    """

    env: Mapping[str, str]
    data_dir: Path | None = None

    def settings(self) -> Settings:
        from chowder_local.core.settings import Settings

        return Settings.read(self.env, data_dir=self.data_dir)

    def files(self) -> DataDir:
        """The files of the data directory. Raises SettingsInvalid.

        The settings, whose import takes as long as a whole call, are read only if the environment
        has others, to check them.
        """
        variables = {name for name in self.env if name.startswith(PREFIX)}
        if variables <= CLIENT_NAMES | {DATA_DIR, KEY_FILE}:
            return DataDir.read(self.env, self.data_dir)
        settings = self.settings()
        return DataDir(settings.data_dir, settings.key_file)

    def with_settings(self, options: Mapping[str, Any]) -> Context:
        """A context whose environment has the settings that were given as options, too."""
        given = {
            PREFIX + name.upper(): ",".join(value) if isinstance(value, tuple) else str(value)
            for name, value in options.items()
            if value not in (None, ())
        }
        return replace(self, env={**self.env, **given})

    def for_data_dir(self) -> Context:
        """A context for the data directory's server, even if CHOWDER_BASE_URL names another."""
        return replace(self, data_dir=self.files().data_dir)

    def other_server(self) -> str | None:
        """The root URL in CHOWDER_BASE_URL; None if unset or the data directory's own server.

        Raises SettingsInvalid if it is not a URL.
        """
        base_url = self._variable(BASE_URL)
        if base_url is None:
            return None
        root_url = base_url.rstrip("/").removesuffix("/v1")
        # A shell may still have the address of the data directory's last server.
        last = find_last(self.files())
        own = [self.settings().root_url] if last is None else [last.root_url, last.public_url]
        return None if _address(root_url) in map(_address, own) else root_url

    def require_local(self, command: str) -> None:
        """Raises ServerElsewhere if CHOWDER_BASE_URL names another server."""
        if (root_url := self.other_server()) is not None:
            raise ServerElsewhere(command, root_url, str(self.files().data_dir))

    def running(self) -> RunningServer:
        """The server of the data directory. Raises ServerNotRunning if it does not run."""
        running = find_running(self.files())
        if running is None:
            raise ServerNotRunning(self.settings().root_url)
        return running

    def root_url(self) -> str:
        """The server's URL for this command, without `/v1`. Raises ServerNotRunning."""
        return self.other_server() or self.running().root_url

    def base_url(self) -> str:
        """The server's URL for clients, with `/v1`. Raises ServerNotRunning."""
        other_url = self.other_server()
        return self.running().base_url if other_url is None else f"{other_url}/v1"

    def key(self) -> str:
        """The API key: CHOWDER_KEY, or else the default organization's.

        Raises ServerNotRunning before the first `up`, DataDirUnusable if the key cannot be read,
        and SettingsInvalid if CHOWDER_BASE_URL names another server and no variable has its key.
        """
        if (key := self._variable(KEY)) is not None:
            return key
        root_url = self.other_server()
        # Another server must not see the data directory's key.
        if root_url is not None and self._variable(KEY_FILE) is None:
            raise SettingsInvalid(
                f"{BASE_URL} names {root_url}, but there is no key for it. Set {KEY} or {KEY_FILE}."
            )
        try:
            return self.files().default_key_file.read_text().strip()
        except FileNotFoundError:
            raise ServerNotRunning(self.settings().root_url) from None
        except OSError as failure:
            raise DataDirUnusable(f"The key cannot be read: {failure}") from failure

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the server; remarks explain a refused key or an unreachable server.

        Raises ServerNotRunning if no server runs.
        """
        from chowder_local.client import Client

        with Client(self.root_url(), self.key()) as client:
            try:
                yield client
            except ServerNotRunning:
                if self.other_server() is not None:
                    note(
                        f"{BASE_URL} names that server. Unset it to use the server of this machine."
                    )
                raise
            except ApiRefused as refused:
                if refused.status == HTTPStatus.UNAUTHORIZED and self._variable(KEY) is not None:
                    note(f"The key is from {KEY}. Unset it to use the default organization.")
                raise

    def program(self) -> str:
        """The shell command that calls this program with the same data directory."""
        return program(self.files().data_dir, self.env.get("PATH"))

    def _variable(self, name: str) -> str | None:
        return None if self.data_dir is not None else self.env.get(name, "").strip() or None


def _address(root_url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL. Raises SettingsInvalid if it is not a URL."""
    try:
        parts = urlsplit(root_url)
        host = parts.hostname or ""
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        host, port = "", 0
    if not host:
        raise SettingsInvalid(f"{BASE_URL} is not a URL such as http://127.0.0.1:2469/v1.")
    return root_url.partition(":")[0], {"localhost": "127.0.0.1"}.get(host, host), port


def pass_client(
    command: Callable[Concatenate[Client, Params], Result],
) -> Callable[Params, Result]:
    """Passes a client of the server to a command, instead of the context."""

    @click.pass_obj
    def call(context: Context, /, *arguments: Params.args, **options: Params.kwargs) -> Result:
        with context.client() as client:
            return command(client, *arguments, **options)

    return update_wrapper(call, command)
