"""Packs the facts that a bug report needs into one archive, without secrets."""

from __future__ import annotations

import json
import os
import platform
import re
import zipfile
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chowder_local import __version__
from chowder_local.cli.server_process import find_running
from chowder_local.core.errors import ChowderError
from chowder_local.core.secrets import SecretBox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from chowder_local.core.settings import Settings
    from chowder_local.diagnostics.checks import Finding

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 6
"""A shorter value is no secret, and its removal would spoil other words."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.I)
_SECRETS = re.compile(
    # API keys, sandbox tokens, provider keys, bearer tokens, and credentials in URLs.
    r"chd_(?:org|sk)_[\w-]+"
    r"|chowder-[0-9a-f]{12}\.[\w-]{16,}"
    r"|\b(?:sk-|AIza|ghp_|xox[a-z]-)[\w-]{8,}"
    # Tokens of Telegram, of Discord, and JWTs.
    r"|\b\d{8,10}:[\w-]{35}\b"
    r"|\b[\w-]{24,28}\.[\w-]{6}\.[\w-]{27,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?<=://)[^/\s\"'@]+(?=@)"
)

LOG_BYTES = 512 * 1024
"""How much of a log's end is packed."""
AGENT_LOG_LINES = 1000
CALL_TIMEOUT_S = 5.0

_SANDBOX_ID = re.compile(r"chowder-[0-9a-f]{12}")


def write_bundle(
    path: Path, settings: Settings, env: Mapping[str, str], findings: Sequence[Finding]
) -> list[str]:
    """Writes the archive with mode 0600, and returns the names of its files.

    A file whose content cannot be read has the error instead. Raises ClickException if the archive
    exists or cannot be written.
    """
    contents: dict[str, Callable[[], Any]] = {
        "versions.json": _versions,
        "settings.json": lambda: settings.model_dump(mode="json"),
        "findings.json": lambda: [asdict(finding) for finding in findings],
        "health.json": lambda: _health(settings),
        "containers.json": lambda: _containers(settings, env),
        "server.log": lambda: _log(settings.log_file),
    }
    if (former := settings.log_file.with_name("server.log.1")).exists():
        contents["server.log.1"] = lambda: _log(former)
    texts = {name: _text(content) for name, content in contents.items()}
    texts |= _agent_logs(settings, env)
    sandbox_ids = {each for text in texts.values() for each in _SANDBOX_ID.findall(text)}
    secrets = {*secret_values(env), *_own_secrets(settings, sandbox_ids)}
    # In JSON some characters of a secret are escaped.
    secrets |= {json.dumps(each, ensure_ascii=False)[1:-1] for each in secrets}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, text in texts.items():
                archive.writestr(name, redact(text, secrets))
    except OSError as failure:
        raise click.ClickException(f"{path} cannot be written: {failure.strerror}.") from failure
    return list(texts)


def _text(content: Callable[[], Any]) -> str:
    try:
        value = content()
    except ChowderError as failure:
        value = {"problem": str(failure)}
    except OSError as failure:
        value = {"problem": failure.strerror}
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _versions() -> dict[str, str]:
    from chowder_local.engine.image_recipe import openclaw_version

    return {
        "chowder-local": __version__,
        "openclaw": openclaw_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _health(settings: Settings) -> Any:
    from chowder_local.client import Client

    running = find_running(settings)
    if running is None:
        return {"problem": "no server runs"}
    with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
        return client.health()


def _containers(settings: Settings, env: Mapping[str, str]) -> Any:
    from chowder_local.engine.store_resources import inspect_store

    return inspect_store(settings.store_file.read_text().strip(), env)


def _agent_logs(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    from chowder_local.engine.store_resources import read_logs

    # Without an engine, containers.json says why there are none.
    with suppress(ChowderError, OSError):
        logs = read_logs(settings.store_file.read_text().strip(), env, AGENT_LOG_LINES)
        return {f"agents/{name}.log": text[-LOG_BYTES:] for name, text in logs.items()}
    return {}


def _log(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace")


def _own_secrets(settings: Settings, sandbox_ids: Iterable[str]) -> set[str]:
    secrets: set[str] = set()
    # A key that cannot be read is in no file of the archive.
    with suppress(OSError):
        secrets.add(settings.default_key_file.read_text().strip())
    if settings.secret_file.is_file():
        with suppress(ChowderError):
            box = SecretBox.load(settings.secret_file)
            for each in sandbox_ids:
                secrets |= {box.gateway_token(each), box.relay_token(each)}
    return secrets


def secret_values(env: Mapping[str, str]) -> set[str]:
    """The values of variables with names of secrets."""
    return {value for name, value in env.items() if _SECRET_NAME.search(name)}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replaces the given secrets, and everything that looks like a secret, in a text."""
    # The longest first, because one may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = text.replace(secret, REDACTED)
    return _SECRETS.sub(REDACTED, text)
