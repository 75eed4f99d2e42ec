"""The page of the command line, from the click commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.main import chowder_local
from chowder_local.cli.options import ALIASES, examples_of
from chowder_local.core.data_dir_layout import PREFIX
from chowder_local.core.errors import ChowderError
from chowder_local.core.settings import Settings
from chowder_local.core.wording import PROGRAM
from scripts.reference_pages.errors import anchor, every_error, meaning
from scripts.reference_pages.markdown import code, codes, fence, inline, prose, table
from scripts.reference_pages.markdown import page as make_page

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENVIRONMENT = re.compile(r"\s*\[env: (\w+)\]")
EVERYWHERE = "data_dir"
"""The help option, which every command has."""


def page() -> str:
    """The whole page."""
    root = click.Context(chowder_local, info_name=PROGRAM)
    aliases = ", ".join(f"{code(alias)} for {code(name)}" for alias, name in ALIASES.items())
    return make_page(
        "Command line",
        prose(chowder_local.help),
        f"Within a group of commands, {aliases} works as well. Every command has `--help`.",
        "## Options of every command",
        _options(root, [each for each in chowder_local.params if each.name != "version"]),
        *_sections(root, chowder_local),
        "## Exit codes",
        table(("Code", "When", "Error"), _exit_codes()),
    )


def _sections(parent: click.Context, group: click.Group, level: int = 2) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        yield f"{'#' * level} {context.command_path}"
        yield prose(command.help)
        if isinstance(command, click.Group):
            yield from _sections(context, command, level + 1)
            continue
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        yield fence("text", usage)
        yield fence("sh", "\n".join(examples_of(context)))
        yield _arguments(context, command)
        yield _options(context, [each for each in command.params if each.name != EVERYWHERE])


def _arguments(context: click.Context, command: click.Command) -> str:
    lines = []
    for each in command.params:
        if isinstance(each, click.Argument):
            count = "" if each.required else " (optional)" if each.nargs == 1 else " (any number)"
            is_choice = isinstance(each.type, click.Choice)
            values = f": {_values(context, each)}" if is_choice else ""
            lines.append(f"- {code(str(each.name).upper())}{count}{values}")
    return "\n".join(["Arguments:\n", *lines]) if lines else ""


def _options(context: click.Context, parameters: list[click.Parameter]) -> str:
    rows = []
    for each in parameters:
        if isinstance(each, click.Option) and not each.hidden:
            description = each.help or ""
            names = codes([*each.opts, *each.secondary_opts])
            variables = _ENVIRONMENT.findall(description)
            default = "*required*" if each.required else _default(context, each, variables)
            value = "" if each.is_flag else _values(context, each)
            description = inline(_ENVIRONMENT.sub("", description))
            rows.append((names, value, default, codes(variables), description))
    return table(("Option", "Value", "Default", "Environment variable", "Description"), rows)


def _values(context: click.Context, parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return codes(parameter.type.choices)
    if isinstance(parameter.type, click.IntRange):
        least, most = parameter.type.min, parameter.type.max
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        return f"integer ({bounds})"
    if isinstance(parameter.type, click.DateTime):
        return codes(parameter.type.formats, " or ")
    return code(parameter.make_metavar(context))


def _default(context: click.Context, option: click.Option, variables: list[str]) -> str:
    default: Any = option.get_default(context)
    if option.is_flag:
        return code(option.opts[0]) if option.secondary_opts and default else ""
    if variables and not isinstance(default, str | int | float):
        field = Settings.model_fields[variables[0].removeprefix(PREFIX).lower()]
        default = None if field.is_required() else field.default
    is_there = isinstance(default, str | int | float)
    return code(default) if is_there else ""


def _exit_codes() -> Iterator[tuple[str, str, str]]:
    yield "`0`", "The command is done.", ""
    yield code(ChowderError.exit_code), "Any other failure.", ""
    declared = [each for each in every_error() if "exit_code" in vars(each)]
    for error in sorted(declared, key=lambda each: each.exit_code):
        link = f"[{code(error.code)}]({anchor(error)})"
        yield code(error.exit_code), inline(meaning(error)), link
