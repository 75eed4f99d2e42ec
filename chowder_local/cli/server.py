"""`down`, `status`, `env` and `dashboard`: the server that runs, or does not."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import Command, json_option
from chowder_local.cli.output import note, say, show_json, waiting
from chowder_local.cli.seed import seeded_key
from chowder_local.cli.server_process import find_running, is_locked, stop_running
from chowder_local.core.errors.process import ServerNotReady, ServerNotRunning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.cli.context import Context


@click.command(cls=Command)
@click.pass_obj
def down(context: Context) -> None:
    """Stop the server; agents stay as they are.

    They go on running without it, and the next `up` finds them again. Does nothing if no server
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
    say(f"The server is stopped{process}. Agents are as they were.")


@click.command(cls=Command)
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> int:
    """Say whether the server runs, and how it is. Exits with 1 if it does not run."""
    from chowder_local.client import Client

    settings = context.settings()
    try:
        with Client(context.root_url()) as client:
            health = client.health()
        # What a client is pointed at, as `env` prints it.
        health["base_url"] = context.base_url()
    except ServerNotRunning:
        if context.other_server() is not None:
            note("CHOWDER_BASE_URL names that server; unset it for the one of this machine.")
            raise
        if is_locked(settings):
            raise ServerNotReady(f"A server on {settings.data_dir} is starting.") from None
        if as_json:
            show_json({"status": "stopped", "data_dir": str(settings.data_dir)})
            return 1
        raise
    if as_json:
        show_json(health)
    else:
        for name, value in _lines(health):
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
@click.option("--organization", help="One that `seed` has made, instead of the default one.")
@click.pass_obj
def env(context: Context, output_format: str, organization: str | None) -> None:
    """Print what to export, for eval: CHOWDER_BASE_URL and CHOWDER_KEY.

    Use it as: eval "$(chowder-local env)". It is about the data directory's server, whatever these
    variables say; with --organization, about the one that CHOWDER_BASE_URL names.
    """
    if organization is None:
        context = context.for_data_dir()
    root_url = context.other_server()
    if root_url is None:
        settings = context.settings()
        running = find_running(settings)
        if running is None:
            note("The server does not run now; start it with: chowder-local up --detach")
        root_url = settings.client_url if running is None else running.public_url
    key = context.key() if organization is None else seeded_key(context, organization)
    values = {"CHOWDER_BASE_URL": f"{root_url}/v1", "CHOWDER_KEY": key}
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
    help="Open it in this machine's browser; whoever may list its processes can see it, too.",
)
@click.pass_obj
def dashboard(context: Context, is_opened: bool) -> None:
    """Print a link that signs in to the dashboard, once and within two minutes.

    It is for the default organization, or for that of CHOWDER_KEY; the key itself is not in it.
    """
    from chowder_local.accounts.dashboard_sessions import sign_in_link
    from chowder_local.core.secrets import SecretBox

    context.require_local("dashboard")
    running, key = context.running(), context.key()
    code = sign_in_link(SecretBox.load(context.settings().secret_file), key, datetime.now(UTC))
    # Behind the #, where a browser keeps it: it is in no request, log or referrer.
    address = f"{running.public_url}/sign-in#code={code}"
    say(address)
    if is_opened and click.launch(address) != 0:
        note("No browser could be opened; open the link yourself.")


def _lines(health: Mapping[str, Any]) -> list[tuple[str, str]]:
    engine = health.get("engine") or {}
    version = engine.get("version") if engine.get("reachable") else f"down: {engine.get('error')}"
    counts = health.get("instances") or {}
    agents = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
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
        ("Warm sandboxes", _warm_sandboxes(health.get("pool") or {})),
    ]


def _warm_sandboxes(pool: Mapping[str, Any]) -> str:
    ready = f"{pool.get('ready', 0)} of {pool.get('size', 0)} ready"
    return f"{ready}; {pool['error']}" if pool.get("error") else ready
