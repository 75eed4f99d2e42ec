"""The command `chowder-local`: the only reader of the process's environment and arguments."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chowder_local import __version__
from chowder_local.cli.context import Context
from chowder_local.cli.exit_codes import BROKEN_PIPE, FAILURE, INTERRUPTED, exit_code_of
from chowder_local.cli.options import data_dir_option
from chowder_local.core.errors import ChowderError
from chowder_local.core.program_name import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("up", "Start the server, and first all that it needs."),
    "down": ("server", "Stop the server; agents stay as they are."),
    "status": ("server", "Say whether the server runs, and how it is."),
    "env": ("server", "Print what to export, for eval."),
    "dashboard": ("server", "Print a link that signs in to the dashboard."),
    "doctor": ("doctor", "Find out what is wrong, and how to cure it."),
    "instances": ("instances", "List, create, copy, stop, start and remove agents."),
    "snapshots": ("snapshots", "Keep agents as they are, and restore them."),
    "chat": ("chat", "Talk to an agent."),
    "logs": ("instances", "Read what an agent's sandbox prints."),
    "sessions": ("history", "List and read an agent's conversations."),
    "usage": ("history", "Show what model calls have cost."),
    "files": ("files", "List, read, fetch and send an agent's files."),
    "keys": ("keys", "List, create and revoke scoped keys."),
    "replies": ("replies", "Script what the offline model says."),
    "exchanges": ("replies", "Look at what an agent's models were asked, and said."),
    "seed": ("seed", "Bring the server to what a file declares."),
    "faults": ("faults", "Let calls fail, wait, or break off, for tests."),
    "image": ("image", "Build, list and remove the sandbox image."),
    "reset": ("reset", "Remove every agent and all data, after asking."),
}
"""Each command's module and summary, here so that `--help` need not import them all."""


class Commands(click.Group):
    """Imports a command's module when it is called."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(data_dir_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"chowder_local.cli.{module}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def chowder_local() -> None:
    """OpenClaw agents behind the hosted API's contract, on this machine.

    Start with `chowder-local up --detach`. Settings are environment variables CHOWDER_*; options
    win over them. CHOWDER_BASE_URL and CHOWDER_KEY, as `env` prints them, choose another server or
    organization. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 port taken, 4 data
    directory in use, 5 data directory unusable, 6 no container engine, 7 no sandbox image,
    8 an agent does not come up, 9 it has not come up in time.
    """


def run(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs one command line; its exit code. What fails is one sentence on standard error."""
    # None leaves it to click, which colours what a terminal shows. See https://no-color.org.
    color = False if env.get("NO_COLOR") else None
    try:
        code = chowder_local.main(
            list(arguments), prog_name=PROGRAM, obj=Context(env), color=color, standalone_mode=False
        )
        sys.stdout.flush()
    except ChowderError as failure:
        click.echo(f"Error: {failure}", err=True)
        return exit_code_of(failure)
    except click.ClickException as refusal:
        refusal.show()
        return refusal.exit_code
    except click.Abort as abort:
        click.echo("Aborted.", err=True)
        # click makes the same of Ctrl-C and of a "no" to a question.
        return INTERRUPTED if isinstance(abort.__cause__, KeyboardInterrupt) else FAILURE
    except SystemExit:
        # Raised by click for one thing: the reader of a pipe has seen enough.
        return BROKEN_PIPE
    except BrokenPipeError:
        # The same, seen at the last flush; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as failure:
        click.echo(f"Error: {failure}", err=True)
        return FAILURE
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:], dict(os.environ)))
