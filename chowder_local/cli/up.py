"""`up`: starts a server that takes calls, with all that it needs."""

from __future__ import annotations

import gc
import threading
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from chowder_local import __version__
from chowder_local.cli.options import Command, Usd
from chowder_local.cli.output import note, note_text, say, waiting
from chowder_local.cli.seed import SEED_PATH, read_file, seed_server
from chowder_local.cli.server_process import (
    ServerFailed,
    healthy_server,
    importing_server,
    start_detached,
    starting_server,
)
from chowder_local.core.data_dir_layout import DataDir
from chowder_local.core.domain import Egress, Tier
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import DataDirLocked, ServerDiffers
from chowder_local.core.errors.sandboxes import ImageMissing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chowder_local.cli.context import Context
    from chowder_local.cli.run_file import RunningServer
    from chowder_local.cli.server_process import NewServer
    from chowder_local.core.settings import Settings
    from chowder_local.seeding.desired_state import Document


@click.command(cls=Command)
@click.option("--host", help="Address to listen on (127.0.0.1).  [env: CHOWDER_HOST]")
@click.option("--port", type=int, help="Port to listen on (2469).  [env: CHOWDER_PORT]")
@click.option(
    "--offline",
    is_flag=True,
    default=None,
    help="Use the offline model for all providers, even if the environment has model keys.  "
    "[env: CHOWDER_OFFLINE]",
)
@click.option(
    "--tier",
    type=click.Choice([str(tier) for tier in Tier]),
    help="Tier of the default organization, whose limits apply (whale).  [env: CHOWDER_TIER]",
)
@click.option("--image", help="Sandbox image to use instead of ours.  [env: CHOWDER_IMAGE]")
@click.option(
    "--egress",
    type=click.Choice([str(egress) for egress in Egress]),
    help="off: agents reach only their models (on).  [env: CHOWDER_EGRESS]",
)
@click.option(
    "--replies",
    type=click.Path(exists=True, dir_okay=False),
    help="YAML file with a reply script for the offline model.  [env: CHOWDER_REPLIES]",
)
@click.option(
    "--record",
    type=click.Path(file_okay=False),
    help="Folder to record model calls of real providers in.  [env: CHOWDER_RECORD]",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of a recording to answer model calls from.  [env: CHOWDER_REPLAY]",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME=URL",
    help="Further model provider: an OpenAI-compatible endpoint, whose models are NAME/model. "
    "Repeatable. Its key, if it needs one, is in NAME_API_KEY.  [env: CHOWDER_PROVIDERS]",
)
@click.option(
    "--budget",
    "budget_usd",
    type=Usd(),
    metavar="USD",
    help="Most that the default organization's model calls may cost in total. "
    "[env: CHOWDER_BUDGET_USD]",
)
@click.option("--seed", type=SEED_PATH, help="Seed the server from this file once it is ready.")
@click.option(
    "-d", "--detach", is_flag=True, help="Run in the background; return once the server is ready."
)
@click.pass_obj
def up(context: Context, /, seed: Path | None, detach: bool, **options: Any) -> int:
    """Start the server; build the sandbox image if it is missing.

    The server runs until Ctrl-C, or in the background with --detach. If it runs already with the
    same settings, the command does nothing; with other settings it is an error. The default
    organization gets the model keys in ANTHROPIC_API_KEY, OPENAI_API_KEY and GEMINI_API_KEY, and
    the offline model for the other providers. With --offline, the offline model also answers for
    the providers of --provider.
    """
    files = DataDir.read(context.env, context.data_dir)
    # A new server imports its modules while this process reads and checks the settings.
    with importing_server(files, context.env) if detach else nullcontext() as server:
        return _up(context.with_settings(options), seed, detach, server)


def _up(context: Context, seed: Path | None, detach: bool, server: NewServer | None) -> int:
    settings = context.settings()
    # An invalid seed file is refused before anything is started.
    seeding = None if seed is None else read_file(context, seed)
    running = healthy_server(settings)
    if running is None:
        _check_files(settings)
        try:
            if not detach:
                ensure_image(settings, context.env)
                return _serve(context, settings, seeding)
            _say_ready(context, settings, _start(settings, context.env, server))
        except (DataDirLocked, ServerFailed) as failure:
            if failure.exit_code != DataDirLocked.exit_code:
                raise
            # Another `up` was faster.
            if (running := starting_server(settings)) is None:
                raise
    if running is not None:
        _check_settings(context, settings, running)
        _say_running(context, running)
    if seeding is not None:
        seed_server(context.for_data_dir(), seeding)
    return 0


def _start(settings: Settings, env: Mapping[str, str], server: NewServer | None) -> RunningServer:
    if server is not None:
        # A server looks for the image itself, which an earlier `up` on the data directory has
        # most likely built.
        try:
            return start_detached(settings, env, server)
        except ServerFailed as failure:
            if failure.exit_code != ImageMissing.exit_code:
                raise
    return start_detached(settings, env, prepare=partial(ensure_image, settings, env))


def _check_files(settings: Settings) -> None:
    """Raises SettingsInvalid if the reply script or the recording is invalid."""
    if settings.replies is not None:
        from chowder_local.relay.scripts import files

        files.read_file(settings.replies)
    if settings.replay is not None:
        from chowder_local.relay import recordings

        recordings.read(settings.replay)


def ensure_image(settings: Settings, env: Mapping[str, str]) -> None:
    """Builds the sandbox image of the settings, unless the engine has it."""
    from chowder_local.engine import images
    from chowder_local.engine.engine_facts import check_own_container
    from chowder_local.engine.image_recipe import expected_tag

    check_own_container(env)
    tag = expected_tag(settings)
    if images.is_there(tag, env):
        return
    with waiting(f"The sandbox image {tag} is not there: building it") as progress:
        images.build(settings, progress, env=env)
    note(f"The sandbox image {tag} is built.")


def _serve(context: Context, settings: Settings, seeding: Document | None) -> int:
    # See `chowder_local.app.__main__`.
    gc.disable()
    from chowder_local.app.process import run

    gc.freeze()
    gc.enable()

    def announce() -> None:
        _say_ready(context, settings, context.running())
        say("", "Ctrl-C stops the server; agents stay as they are.")
        if seeding is not None:
            _seed(context, seeding)

    # Seeding calls this server, so it needs a thread. The server's end does not wait for that.
    announcing = threading.Thread(target=announce, daemon=True, name="announce")
    return run(settings, context.env, announcing.start)


def _seed(context: Context, seeding: Document) -> None:
    try:
        seed_server(context.for_data_dir(), seeding)
    except ChowderError as failure:
        # The server keeps running: the user can correct the file and run `seed`.
        note_text(f"Error: {failure}")


def _check_settings(context: Context, settings: Settings, running: RunningServer) -> None:
    """Raises ServerDiffers if the running server has other settings than these."""
    from chowder_local.app.effective_settings import mismatches

    differences = list(mismatches(settings, context.env, running.settings))
    if settings.tier is not None:
        from chowder_local.client import Client

        # A subscription may have changed the tier since the start.
        with Client(running.root_url, context.for_data_dir().key()) as client:
            tier = client.organization()["subscription_tier"]
        if tier != settings.tier:
            differences.append(f"CHOWDER_TIER is {tier}, not {settings.tier}")
    if differences:
        raise ServerDiffers(running.pid, "; ".join(differences), context.program())


def _say_running(context: Context, running: RunningServer) -> None:
    say(f"chowder-local {running.version} runs already (process {running.pid}).")
    if running.version != __version__:
        note(f"This command is {__version__}. Run 'down' and 'up' to update the server.")
    _say_lines(context, running)


def _say_ready(context: Context, settings: Settings, running: RunningServer) -> None:
    say(f"chowder-local {running.version} is ready (process {running.pid}).")
    _say_lines(context, running, _models(settings, context.env))
    if _spends_without_limit(context, settings, running):
        note(
            "",
            "No budget limits what model calls cost. Set one with: "
            f"{context.program()} budget set --usd 5 --per day",
        )
    if settings.egress is Egress.OFF:
        note(
            "", "Egress is off: agents reach only their models, unless they have their own setting."
        )
    if settings.reuse:
        note(
            "",
            "Sandboxes are used again in one organization: a gateway's memory may still have texts "
            "of a deleted agent, which programs in the sandbox cannot read.",
        )
    if not settings.is_on_loopback:
        from chowder_local.core.settings import exposure_warning
        from chowder_local.engine.self_container import is_in_container

        warning = exposure_warning(settings.host, is_in_container=is_in_container())
        note("", f"Warning: {warning}")


def _spends_without_limit(context: Context, settings: Settings, running: RunningServer) -> bool:
    """Whether the default organization has a real model key and no budget."""
    from chowder_local.core.domain import OFFLINE_KEY
    from chowder_local.core.model_endpoints import default_model_keys

    has_key = set(default_model_keys(context.env, settings.offline).values()) != {OFFLINE_KEY}
    endpoints = settings.endpoints(context.env).values()
    if not (has_key or any(each.has_secret for each in endpoints)):
        return False
    from chowder_local.client import Client
    from chowder_local.client.transport import if_found

    with Client(running.root_url, context.for_data_dir().key()) as client:
        return if_found(client.budget) is None


def _say_lines(context: Context, running: RunningServer, models: str | None = None) -> None:
    settings = context.settings()
    say()
    say(f"  Base URL  {running.base_url}")
    say(f"  Dashboard {running.public_url}/  (sign in with '{context.program()} dashboard')")
    say(f"  Guide     {running.public_url}/guide/")
    say(f"  API       {running.public_url}/docs")
    say(f"  Data      {settings.data_dir}")
    if models is not None:
        say(f"  Models    {models}")
    if (other := context.other_server()) is not None:
        note("", f"CHOWDER_BASE_URL still names {other}, so other commands use that server.")
    say("", "Paste this to create an agent and talk to it:", "")
    say(f'  eval "$({context.program()} env)"')
    say(f"  export INSTANCE=$({context.program()} instances create my-first-agent)")
    say(f'  {context.program()} chat "$INSTANCE" "Hey! Who are you?"')


def _models(settings: Settings, env: Mapping[str, str]) -> str:
    """The providers with a key from the environment, and those with the offline model."""
    from chowder_local.core.domain import OFFLINE_KEY
    from chowder_local.core.model_endpoints import OLLAMA, default_model_keys

    keys = default_model_keys(env, settings.offline)
    real = [str(provider) for provider, key in keys.items() if key != OFFLINE_KEY]
    offline = [str(provider) for provider, key in keys.items() if key == OFFLINE_KEY]
    lines = [f"{', '.join(real)}: key from the environment"] if real else []
    if offline:
        unless = "" if settings.offline else ", unless you set a key with PATCH /v1/organization"
        lines.append(f"{', '.join(offline)}: built-in offline model{unless}")
    for endpoint in settings.endpoints(env).values():
        if endpoint.name in settings.providers:
            keyed = ", key from the environment" if endpoint.has_secret else ""
            place = "built-in offline model" if endpoint.is_offline else endpoint.url
            lines.append(f"{endpoint.name}/…: {place}{keyed}")
    if OLLAMA not in settings.providers and not settings.offline:
        lines.append(f"{OLLAMA}/…: Ollama, if it runs ('doctor' checks)")
    return "; ".join(lines)
