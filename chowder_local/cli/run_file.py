"""Reads which server runs on a data directory, and which one ran last."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chowder_local.core.data_dir_layout import DataDirLayout


@dataclass(frozen=True)
class RunningServer:
    """The content of a server's run file; `root_url` has no `/v1`."""

    pid: int
    root_url: str
    version: str
    providers: Mapping[str, str] = field(default_factory=dict)
    """URLs by name of the model providers that the server was started with."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings that it runs with, in the form of `effective_settings`."""
    published_url: str | None = None
    process_namespace: str | None = None
    """What `pid` is of; None if the server is of a version that does not say."""

    @property
    def public_url(self) -> str:
        """The URL for clients, without `/v1`; a server in a container has another root URL."""
        return self.published_url or self.root_url

    @property
    def base_url(self) -> str:
        """The URL for clients, with `/v1`."""
        return f"{self.public_url}/v1"


def find_running(files: DataDirLayout) -> RunningServer | None:
    """The server of the run file, if the file is valid; the server may have died since."""
    return _read(files.run_file)


def find_last(files: DataDirLayout) -> RunningServer | None:
    """The server that runs, or that ran last."""
    return find_running(files) or _read(files.last_run_file)


def _read(file: Path) -> RunningServer | None:
    try:
        content = json.loads(file.read_bytes())
        root_url = str(content["base_url"]).rstrip("/").removesuffix("/v1")
        providers = dict(content.get("providers", {}))
        effective = dict(content.get("settings", {}))
        pid, version = int(content["pid"]), str(content["version"])
        published_url, namespace = content.get("public_url"), content.get("process_namespace")
        return RunningServer(pid, root_url, version, providers, effective, published_url, namespace)
    except (OSError, ValueError, KeyError, TypeError):
        return None
