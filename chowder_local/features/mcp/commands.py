"""`mcp`: the server's tools for editors."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chowder_local.cli.options import Command
from chowder_local.cli.output import say
from chowder_local.core.wording import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chowder_local.cli.context import Context


@click.command(cls=Command)
@click.option("--stdio", "is_stdio", is_flag=True, help="Serve an editor that starts this command.")
@click.pass_obj
def mcp(context: Context, is_stdio: bool) -> None:
    """Print how to give editors the server's tools, or serve one.

    The tools create, fork, message and explain agents. With --stdio, no editor's file needs a key.
    """
    url = f"{context.root_url()}/mcp"
    if is_stdio:
        from chowder_local.features.mcp.stdio import serve

        asyncio.run(serve(url, context.key()))
        return
    # A process of an editor does not know which other server this shell's variables name.
    for line in _processes(_command(context)) if context.other_server() is None else ():
        say(line)
    say("Whatever speaks streamable HTTP, with the key that `chowder-local env` prints:")
    say(f"  {url}  Authorization: Bearer $CHOWDER_KEY")


def _command(context: Context) -> list[str]:
    """The words that start the process for an editor, which has neither this shell's PATH nor
    its environment."""
    path = shutil.which(PROGRAM) or sys.argv[0]
    data_dir = ["--data-dir", str(context.settings().data_dir)]
    return [str(Path(path).absolute()), *data_dir, "mcp", "--stdio"]


def _processes(command: Sequence[str]) -> Iterator[str]:
    program, *arguments = command
    process = {"command": program, "args": arguments}
    yield "Claude Code:"
    yield f"  claude mcp add {PROGRAM} -- {shlex.join(command)}"
    yield "Cursor (.cursor/mcp.json), Windsurf, Zed and others that know mcpServers:"
    yield f"  {json.dumps({'mcpServers': {PROGRAM: process}})}"
    yield "VS Code (.vscode/mcp.json):"
    yield f"  {json.dumps({'servers': {PROGRAM: {'type': 'stdio', **process}}})}"
    yield "Codex (~/.codex/config.toml):"
    yield f"  [mcp_servers.{PROGRAM}]"
    yield f"  command = {json.dumps(program)}"
    yield f"  args = {json.dumps(arguments)}"
