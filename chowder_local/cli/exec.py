"""`exec`: runs a command with a server, which is removed afterwards if none ran before."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import BASE_URL, KEY
from chowder_local.cli.options import Command, Usd
from chowder_local.cli.output import note, note_text, waiting
from chowder_local.cli.seed import SEED_PATH, read_file, seed_server
from chowder_local.cli.server_process import healthy_server
from chowder_local.core.addresses import free_port
from chowder_local.core.data_dir_layout import DATA_DIR
from chowder_local.core.errors import FAILURE
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from chowder_local.cli.context import Context
    from chowder_local.client import Client

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OF_SIGNAL = 128
"""A shell adds this to the number of the signal that ended a command."""


@click.command(cls=Command, name="exec", context_settings={"allow_interspersed_args": False})
@click.option("--instance", metavar="NAME", help="Create an agent of this name for the command.")
@click.option("--seed", type=SEED_PATH, help="Seed the server from this file before.")
@click.option(
    "--offline/--no-offline",
    default=True,
    help="Whether a server that is started for the command has offline models only.",
)
@click.option(
    "--budget",
    type=Usd(),
    metavar="USD",
    help="Most that the organization's model calls may cost while the command runs.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec(  # noqa: A001 - the command's name
    context: Context,
    instance: str | None,
    seed: Path | None,
    offline: bool,
    budget: float | None,
    command: Sequence[str],
) -> int:
    """Run COMMAND with a server, as in chowder-local exec -- npm test.

    Without a running server, one is started on a free port and a data directory of its own, and
    removed with all that it has when the command ends. A server that runs is used and stays. The
    command gets what `env` prints; with --instance also CHOWDER_INSTANCE_ID, OPENAI_BASE_URL and
    OPENAI_API_KEY, with which OpenAI's SDKs talk to that agent, which is removed at the end.
    Signals are passed on to the command, and its exit code is this one's.
    """
    if shutil.which(command[0], path=context.env.get("PATH")) is None:
        raise SettingsInvalid(f"There is no command {command[0]!r}. Check its name and PATH.")
    seeding = None if seed is None else read_file(context, seed)
    with Signals() as signals, ExitStack() as stack:
        if context.other_server() is None and healthy_server(context.files()) is None:
            context = stack.enter_context(_own_server(context, signals, offline=offline))
        if budget is not None:
            client = stack.enter_context(context.client())
            stack.enter_context(_budget(client, signals, budget))
        if seeding is not None:
            seed_server(context, seeding)
        variables = {BASE_URL: context.base_url(), KEY: context.key()}
        if context.other_server() is None:
            variables[DATA_DIR] = str(context.files().data_dir)
        if instance is not None:
            client = stack.enter_context(context.client())
            instance_id = stack.enter_context(_agent(client, signals, instance))
            variables |= {
                "CHOWDER_INSTANCE_ID": instance_id,
                "OPENAI_BASE_URL": f"{variables[BASE_URL]}/instances/{instance_id}",
                "OPENAI_API_KEY": variables[KEY],
            }
        return signals.run(command, {**context.env, **variables})


class Signals:
    """Passes signals on to the command; before and after it, they end this program in order."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_running = False
        self._early: list[int] = []
        """Signals that came while the command was being started."""
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._former = {each: signal.signal(each, self._handle) for each in ENDING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._is_running:
            # A second one does not interrupt what the first one lets be removed.
            self.ignore()
            raise click.exceptions.Exit(OF_SIGNAL + number)
        # Ctrl-C in a terminal reaches the command by itself.
        if number == signal.SIGINT and sys.stdin.isatty():
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def run(self, command: Sequence[str], env: Mapping[str, str]) -> int:
        """Runs the command to its end, and returns its exit code as a shell does."""
        self._is_running = True
        with subprocess.Popen(command, env=dict(env)) as process:  # noqa: S603 - the user's own
            self._process = process
            for number in self._early:
                process.send_signal(number)
            code = process.wait()
        self.ignore()
        return code if code >= 0 else OF_SIGNAL - code

    def ignore(self) -> None:
        """From now on, signals do not interrupt what is removed at the end."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _own_server(context: Context, signals: Signals, *, offline: bool) -> Iterator[Context]:
    """A server on a new data directory, which is removed with all that it has."""
    with tempfile.TemporaryDirectory(prefix="chowder-local-exec-") as folder:
        own = replace(context, data_dir=Path(folder) / "data")
        up = ["up", "--detach", "--port", str(free_port()), *(["--offline"] if offline else [])]
        try:
            # The output of `up` is for people who continue by hand, so only its progress is shown.
            if code := _run(own, up).returncode:
                raise click.exceptions.Exit(code)
            yield own
        finally:
            signals.ignore()
            done = _run(own, ["reset", "--yes"], stderr=subprocess.PIPE)
            if done.returncode:
                note_text(done.stderr.decode(errors="replace").strip())
                raise click.exceptions.Exit(FAILURE)


def _run(
    context: Context, arguments: Sequence[str], **options: Any
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "chowder_local", "--data-dir", str(context.data_dir)]
    return subprocess.run(  # noqa: S603 - our own program
        [*command, *arguments],
        env=dict(context.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
        **options,
    )


@contextmanager
def _budget(client: Client, signals: Signals, usd: float) -> Iterator[None]:
    """A budget of the organization, which is removed at the end."""
    from chowder_local.client.transport import if_found

    if if_found(client.budget) is not None:
        raise SettingsInvalid(
            "The organization has a budget already ('chowder-local budget show'), which limits the "
            "command as well. Remove it, or leave --budget out."
        )
    client.set_budget("total", usd=usd)
    try:
        yield
    finally:
        signals.ignore()
        spent = client.budget()
        note(spent["message"] or f"Model calls took {spent['spent']['usd']:.4f} of {usd:g} USD.")
        client.remove_budget()


@contextmanager
def _agent(client: Client, signals: Signals, name: str) -> Iterator[str]:
    """A running agent, which is removed at the end."""
    instance_id: str = client.create_instance(name)["id"]
    try:
        with waiting(f"Waiting for the agent {name}"):
            client.wait_until_running(instance_id)
        yield instance_id
    finally:
        signals.ignore()
        client.delete(instance_id)
