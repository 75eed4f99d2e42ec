"""The command `chowder-local`: reads the process's environment and arguments."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chowder_local import __version__
from chowder_local.cli.context import Context
from chowder_local.cli.options import data_dir_option, write_examples
from chowder_local.cli.output import discard, flush, note, note_text, note_usage
from chowder_local.core.errors import FAILURE, ChowderError
from chowder_local.core.wording import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.metadata import EntryPoint

INTERRUPTED = 130
BROKEN_PIPE = 141
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("up", "Start the server; build the sandbox image if it is missing."),
    "down": ("server", "Stop the server; agents stay as they are."),
    "status": ("server", "Show whether the server runs, and its health."),
    "env": ("server", "Print the variables that clients need, for eval."),
    "dashboard": ("server", "Print a link that signs in to the dashboard."),
    "exec": ("exec", "Run a command with a server that is removed afterwards."),
    "doctor": ("doctor", "Find problems, and say how to fix them."),
    "disk": ("image", "Show what agents, snapshots, images and caches take."),
    "instances": ("instances", "List, create, copy, stop, start and remove agents."),
    "snapshots": ("snapshots", "List, take, restore and remove snapshots of agents."),
    "clock": (
        "chowder_local.features.clock.commands",
        "Show, set and move on the clock of an agent.",
    ),
    "jobs": (
        "chowder_local.features.jobs.commands",
        "List, create, change and run an agent's scheduled jobs.",
    ),
    "chat": ("chat", "Talk to an agent."),
    "logs": ("history", "Print the logs of agents' sandboxes."),
    "sessions": ("history", "List, read and change the sessions of an agent."),
    "activity": ("history", "Show what an agent is doing, wait for it, or end it."),
    "trace": ("history", "Show what an agent did for an answer, step by step."),
    "messages": ("messages", "Print what an agent said without being asked, or wait for it."),
    "hooks": ("chowder_local.features.webhooks.commands", "Send webhooks to agents."),
    "inbox": (
        "chowder_local.features.webhooks.commands",
        "List the webhooks that an agent sent.",
    ),
    "usage": ("history", "Show what model calls cost."),
    "budget": ("chowder_local.features.budgets.commands", "Limit what model calls may cost."),
    "files": ("agent_contents", "List, read, download and upload an agent's files."),
    "keys": ("accounts", "List, create and revoke scoped keys."),
    "channels": ("agent_contents", "List, connect and pair an agent's channels to messengers."),
    "skills": ("agent_contents", "List, add, install and set up an agent's skills."),
    "organization": ("accounts", "Show and change the organization's keys and tier."),
    "replies": ("faults_and_replies", "Script what the offline model says."),
    "hold": (
        "chowder_local.features.breakpoints.commands",
        "Hold an agent's model calls, and let them go on.",
    ),
    "approvals": (
        "chowder_local.features.approvals.commands",
        "List, allow and deny commands that wait for an approval.",
    ),
    "calls": ("calls", "Show an agent's model calls; keep and replay runs as files."),
    "diff": ("diff", "Show how two runs differ, or an agent and a hosted one."),
    "rerun": ("calls", "Run a turn again on a fork, from one of its model calls on."),
    "events": ("history", "Follow what the server decides, as it happens."),
    "mcp": (
        "chowder_local.features.mcp.commands",
        "Print how to give editors the server's tools, or serve one.",
    ),
    "seed": ("seed", "Bring the server to what a file declares."),
    "pull": ("remote", "Copy an agent of another server here and into a folder."),
    "push": ("remote", "Bring agents of another server to what a file declares."),
    "trials": ("trials", "Run cases several times on forks, and judge how many pass."),
    "faults": ("faults_and_replies", "Make calls fail, wait, or break off, for tests."),
    "image": ("image", "Build, list and remove the sandbox image."),
    "worker": ("integrations", "Serve a node of a swarm; docker/stack.yaml starts it."),
    "conformance": ("conformance", "Judge a service by the published contract."),
    "completion": ("integrations", "Print a script with which a shell completes names."),
    "reset": ("reset", "Remove every agent and all data, after asking."),
}
FORMER_NAMES = {"exchanges": "calls"}
"""Names of commands in 0.1, which are taken with a warning until 0.3."""
"""Each command's module, a feature's by its path, and summary, so that `--help` imports none."""


GROUP = "chowder_local.commands"
"""The entry points by which other packages bring commands: a name, and a command of click."""


def of_other_packages() -> list[EntryPoint]:
    """The commands of other packages that are installed; those of this one win."""
    found = [each for each in entry_points(group=GROUP) if each.name not in COMMANDS]
    return sorted(found, key=lambda each: each.name)


def _package(found: EntryPoint) -> str:
    return found.value if found.dist is None else found.dist.name


def _loaded(found: EntryPoint) -> click.Command:
    try:
        command = found.load()
    except Exception as failure:
        problem = f"{type(failure).__name__}: {failure}"
        raise click.ClickException(
            f"The command {found.name} of {_package(found)} cannot be imported: {problem}. Upgrade "
            "or uninstall that package."
        ) from failure
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"{found.value} of {_package(found)} is no command of click. Upgrade or uninstall "
            "that package."
        )
    return command


class Commands(click.Group):
    """Imports the module of a command when the command is used."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(data_dir_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *(each.name for each in of_other_packages())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (name := FORMER_NAMES.get(cmd_name)) is not None:
            note(f"Warning: '{cmd_name}' is '{name}' now, and goes with 0.3.")
            cmd_name = name
        if cmd_name not in COMMANDS:
            found = next((each for each in of_other_packages() if each.name == cmd_name), None)
            return None if found is None else _loaded(found)
        module, _ = COMMANDS[cmd_name]
        path = module if "." in module else f"chowder_local.cli.{module}"
        command = getattr(import_module(path), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])
        if others := of_other_packages():
            with formatter.section("Commands of other packages"):
                formatter.write_dl([(each.name, f"Of {_package(each)}.") for each in others])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def chowder_local() -> None:
    """Run OpenClaw agents on this machine, behind the contract of the hosted API.

    Start with `chowder-local up --detach`. Settings are environment variables CHOWDER_*; options
    win over them. CHOWDER_BASE_URL and CHOWDER_KEY, as `env` prints them, choose another server or
    organization. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 port taken, 4 data
    directory in use, 5 data directory unusable, 6 no container engine, 7 no sandbox image,
    8 an agent does not come up, 9 it has not come up in time.
    """


def run(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs one command line, and returns its exit code. Errors go to standard error."""
    # With None, click colours the output on a terminal. See https://no-color.org.
    color = False if env.get("NO_COLOR") else None
    try:
        code = chowder_local.main(
            list(arguments), prog_name=PROGRAM, obj=Context(env), color=color, standalone_mode=False
        )
        flush()
    except ChowderError as failure:
        note_text(f"Error: {failure}")
        return failure.exit_code
    except click.ClickException as refusal:
        note_usage(refusal)
        return refusal.exit_code
    except click.Abort as abort:
        note("Aborted.")
        # click raises Abort for Ctrl-C and for a "no" to a question.
        return INTERRUPTED if isinstance(abort.__cause__, KeyboardInterrupt) else FAILURE
    except SystemExit as ended:
        # click raises it after a completion, and if the reader of a pipe has closed it.
        return BROKEN_PIPE if ended.code else 0
    except BrokenPipeError:
        # The pipe was closed before the last flush, which Python repeats at exit.
        discard()
        return BROKEN_PIPE
    except OSError as failure:
        note_text(f"Error: {failure}")
        return FAILURE
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The console script."""
    # httpx has a command of its own and imports it with all that draws its output, unless that
    # cannot be imported: a sixth of what a call takes.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None is documented
    sys.exit(run(sys.argv[1:], dict(os.environ)))
