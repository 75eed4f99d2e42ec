"""`down`, `status`, `env` and `dashboard`: commands for the server of a data directory."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import BASE_URL, KEY
from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, note, say, show_json, waiting
from chowder_local.cli.run_file import find_running
from chowder_local.cli.seed import organization_key
from chowder_local.cli.server_process import is_locked, stop_running
from chowder_local.core.data_dir_layout import DATA_DIR
from chowder_local.core.errors.process import ServerNotReady, ServerNotRunning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.cli.context import Context


@click.command(cls=Command)
@click.pass_obj
def down(context: Context) -> None:
    """Stop the server; agents stay as they are.

    They keep running without it, and the next `up` finds them again. Does nothing if no server
    runs.
    """
    context.require_local("down")
    settings = context.settings()
    if not is_locked(settings):
        say(f"No server runs on {settings.data_dir}.")
        return
    with waiting("Waiting for the server to stop"):
        pid = stop_running(settings)
    process = "" if pid is None else f" (process {pid})"
    say(f"The server is stopped{process}. Agents stay as they are.")


@click.command(cls=Command)
@output_option
@click.pass_obj
def status(context: Context, output: Output) -> int:
    """Show whether the server runs, and its health. Exits with 1 if it does not run."""
    from chowder_local.client import Client

    settings = context.settings()
    try:
        with Client(context.root_url()) as client:
            health = client.health()
        # The address for clients, as `env` prints it.
        health["base_url"] = context.base_url()
    except ServerNotRunning:
        if context.other_server() is not None:
            note("CHOWDER_BASE_URL names that server. Unset it to use the server of this machine.")
            raise
        if is_locked(settings):
            raise ServerNotReady(f"A server on {settings.data_dir} is starting.") from None
        if output is Output.JSON:
            show_json({"status": "stopped", "data_dir": str(settings.data_dir)})
            return 1
        raise
    if output is Output.JSON:
        show_json(health)
    else:
        for name, value in _status_rows(health):
            say(f"{name:<11}{value}")
    return 0


@click.command(cls=Command)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["shell", "dotenv", "json"]),
    default="shell",
    show_default=True,
    help="For eval in a shell, for a .env file, or for a script.",
)
@click.option("--organization", help="Organization that `seed` made, instead of the default one.")
@click.pass_obj
def env(context: Context, output_format: str, organization: str | None) -> None:
    """Print CHOWDER_BASE_URL and CHOWDER_KEY for clients, and CHOWDER_DATA_DIR for commands.

    Use it as: eval "$(chowder-local env)". The values are those of the data directory's server,
    even if the variables name another; with --organization, those of the server that
    CHOWDER_BASE_URL names. A server in a container has its data directory there, so the variable
    is left out.
    """
    if organization is None:
        context = context.for_data_dir()
    root_url, data_dir = context.other_server(), None
    if root_url is None:
        settings = context.settings()
        running = find_running(settings)
        if running is None:
            note("The server does not run. Start it with: chowder-local up --detach")
        root_url = settings.client_url if running is None else running.public_url
        if root_url == (running or settings).root_url:
            data_dir = str(settings.data_dir)
    key = context.key() if organization is None else organization_key(context, organization)
    values = {BASE_URL: f"{root_url}/v1", KEY: key}
    if data_dir is not None:
        values[DATA_DIR] = data_dir
    if output_format == "json":
        show_json(values)
        return
    prefix = "export " if output_format == "shell" else ""
    for name, value in values.items():
        say(f"{prefix}{name}={shlex.quote(value)}")


@click.command(cls=Command)
@click.option(
    "--open",
    "is_opened",
    is_flag=True,
    help="Open the link in this machine's browser. Users who can list processes can read it.",
)
@click.pass_obj
def dashboard(context: Context, is_opened: bool) -> None:
    """Print a link that signs in to the dashboard, once and within two minutes.

    It is for the default organization, or for that of CHOWDER_KEY. It does not contain the key.
    """
    from chowder_local.accounts.keys import sign_in_link
    from chowder_local.core.secrets import SecretBox

    context.require_local("dashboard")
    running, key = context.running(), context.key()
    code = sign_in_link(SecretBox.load(context.settings().secret_file), key, datetime.now(UTC))
    # Browsers do not send what is behind the #, so it is in no request, log or referrer.
    address = f"{running.public_url}/sign-in#code={code}"
    say(address)
    if is_opened and click.launch(address) != 0:
        note("No browser could be opened; open the link yourself.")


def _status_rows(health: Mapping[str, Any]) -> list[tuple[str, str]]:
    engine = health.get("engine") or {}
    version = engine.get("version") if engine.get("reachable") else f"down: {engine.get('error')}"
    counts = health.get("instances") or {}
    # Terminated ones are rows without an agent.
    is_shown = {status: bool(count) for status, count in counts.items()} | {"terminated": False}
    agents = ", ".join(f"{count} {status}" for status, count in counts.items() if is_shown[status])
    return [
        ("Status", f"{health.get('status')}, since {health.get('started_at')}"),
        ("Base URL", str(health.get("base_url"))),
        ("Data", str(health.get("data_dir"))),
        ("Process", str(health.get("pid"))),
        ("Version", f"{health.get('version')} with OpenClaw {health.get('openclaw_version')}"),
        ("Engine", str(version)),
        ("Image", str(health.get("image"))),
        ("Relay", str((health.get("relay") or {}).get("url"))),
        ("Agents", agents or "none"),
        ("Warm pool", _warm_pool(health.get("pool") or {})),
        *(("Node", _node(each)) for each in health.get("nodes") or ()),
    ]


def _node(node: Mapping[str, Any]) -> str:
    problem = node["problem"] or "does not answer"
    states = {"drained": node["is_drained"], problem: not node["is_linked"]}
    words = [f"{node['sandboxes']} sandboxes", *(word for word, is_so in states.items() if is_so)]
    return f"{node['name']}: {', '.join(words)}"


def _warm_pool(pool: Mapping[str, Any]) -> str:
    ready = f"{pool.get('ready', 0)} of {pool.get('size', 0)} ready"
    return f"{ready}; {pool['error']}" if pool.get("error") else ready
