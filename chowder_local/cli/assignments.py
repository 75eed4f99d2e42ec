"""Arguments of the form NAME=VALUE."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_INPUT = "@-"


def json_value(text: str) -> Any:
    """The value that JSON gives, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _texts(texts: tuple[str, ...], hint: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for each in texts:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{each!r} is not {hint}.", param_hint=hint)
        given[name] = value
    return given


def settings(
    _: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, Any]:
    """A callback of click: settings by path, whose values are JSON or else strings."""
    given = _texts(texts, parameter.metavar or "PATH=VALUE")
    return {path: json_value(value) for path, value in given.items()}


def secrets(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """A callback of click: texts by name. `@FILE` is read, and `@-` is standard input."""
    given = _texts(texts, parameter.metavar or "NAME=VALUE")
    return {name: _secret(value) for name, value in given.items()}


def _secret(value: str) -> str:
    if value == STANDARD_INPUT:
        return sys.stdin.readline().rstrip("\n")
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text().rstrip("\n")
    except (OSError, ValueError) as failure:
        raise click.BadParameter(f"{value[1:]} cannot be read: {failure}") from failure


def env_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--env NAME=VALUE`, repeatable."""
    return click.option(
        "-e",
        "--env",
        multiple=True,
        metavar="NAME=VALUE",
        callback=secrets,
        help=f"{help_text} @FILE reads the value from a file, @- from standard input. Repeatable.",
    )
