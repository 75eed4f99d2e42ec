"""The settings of a running server, as its run file has them, and a comparison with others.

Secrets, and addresses that may contain one, are stored as keyed digests.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from chowder_local.core.data_dir_layout import PREFIX
from chowder_local.core.model_endpoints import (
    MODEL_KEY_VARIABLES,
    OLLAMA,
    default_model_keys,
    key_variable,
)
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Values = Mapping[str, Any]

SALT = "salt"
ENGINE = "DOCKER_HOST"
_SECRET_ADDRESSES = {"anthropic_base_url", "openai_base_url", "gemini_base_url", "clawhub_url"}
_READ_ONCE = ("replies", "replay", "ca_bundle")
"""Files and folders that a server reads only when it starts."""
_NOT_COMPARED = {"data_dir", "tier"}
"""The data directory is how a server is found, and the tier may have changed since the start."""


def effective_settings(
    settings: Settings, env: Mapping[str, str], *, image: str, engine_url: str, salt: str
) -> dict[str, Any]:
    """All settings by the names of their variables, with the image and the engine in use."""
    fields = settings.model_dump(mode="json", exclude=_NOT_COMPARED) | {"image": image}
    values: dict[str, Any] = {SALT: salt}
    for name, value in fields.items():
        is_secret = name in _SECRET_ADDRESSES and value is not None
        values[PREFIX + name.upper()] = _digest(value.encode(), salt) if is_secret else value
    for name in _READ_ONCE:
        values[_content(name)] = _digest_of(getattr(settings, name), salt)
    secrets = {
        MODEL_KEY_VARIABLES[provider]: key
        for provider, key in default_model_keys(env, settings.offline).items()
    }
    for endpoint in settings.endpoints(env).values():
        secrets[key_variable(endpoint.name)] = endpoint.key
        if endpoint.name == OLLAMA:
            secrets["OLLAMA_HOST"] = endpoint.url
    values |= {name: _digest(secret.encode(), salt) for name, secret in secrets.items()}
    return values | {ENGINE: engine_url}


def mismatches(settings: Settings, env: Mapping[str, str], running: Values) -> Iterator[str]:
    """Yields a sentence for each requested setting that the running server does not have.

    `env` is the request, and `settings` its values; other settings are not compared. Raises
    EngineRemote and EngineUnavailable as `find_engine` does.
    """
    requested = effective_settings(
        settings,
        env,
        image=settings.image or "",
        engine_url=find_engine(env).url if env.get(ENGINE) else "",
        salt=str(running.get(SALT)),
    )
    for name in _requested_names(settings, env):
        is_field = name.startswith(PREFIX)
        if requested[name] != running.get(name):
            field = name.removeprefix(PREFIX).lower()
            is_public = name == ENGINE or (is_field and field not in _SECRET_ADDRESSES)
            values = f"{_format_value(running.get(name))}, not {_format_value(requested[name])}"
            yield f"{name} is {values if is_public else 'not what the server was started with'}"
        elif is_field:
            content = _content(name.removeprefix(PREFIX).lower())
            if requested.get(content) != running.get(content):
                yield f"{name} has changed since the server read it"


def _requested_names(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(Settings.model_fields.keys() - _NOT_COMPARED):
        if PREFIX + name.upper() in env:
            yield PREFIX + name.upper()
    keys: list[str] = []
    # A server that is offline for every provider uses no keys.
    if not settings.offline:
        keys = [*MODEL_KEY_VARIABLES.values(), *map(key_variable, settings.endpoints(env))]
    for name in (*keys, "OLLAMA_HOST", ENGINE):
        if env.get(name, "").strip():
            yield name


def _content(name: str) -> str:
    return f"content of {name}"


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        value = [f"{name}={each}" for name, each in value.items()]
    if isinstance(value, list):
        value = ",".join(value)
    return "not set" if value in (None, "") else str(value)


def _digest_of(path: Path | None, salt: str) -> str | None:
    """A digest of a file or of a folder's files; None if it cannot be read."""
    if path is None:
        return None
    try:
        if not path.is_dir():
            return _digest(path.read_bytes(), salt)
        files = sorted(each for each in path.iterdir() if each.is_file())
        contents = (f"{each.name}\0{_digest(each.read_bytes(), salt)}" for each in files)
        return _digest("\n".join(contents).encode(), salt)
    except OSError:
        return None


def _digest(value: bytes, salt: str) -> str:
    return hashlib.blake2b(value, key=salt.encode()[:64], digest_size=16).hexdigest()
