"""`doctor`: checks everything that an agent needs, and says how to fix each problem."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, note, say, show_json
from chowder_local.cli.server_process import find_running, is_locked
from chowder_local.core import model_endpoints
from chowder_local.core.errors import ChowderError
from chowder_local.diagnostics import checks
from chowder_local.diagnostics.checks import Finding, Level
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE, find_misfits, read_observations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chowder_local.cli.context import Context
    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts

MARKS = {Level.OK: ("ok", "green"), Level.WARN: ("warn", "yellow"), Level.FAIL: ("FAIL", "red")}


@click.command(cls=Command)
@output_option
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    is_flag=False,
    flag_value="chowder-local-bundle.zip",
    help="Write an archive for a bug report to this file, without secrets.",
)
@click.pass_obj
def doctor(context: Context, output: Output, bundle: Path | None) -> int:
    """Find problems, and say how to fix them. Exits with 1 if a problem must be fixed.

    The checks are of this machine and of the server of the data directory.
    """
    if bundle is not None:
        context.require_local("doctor --bundle")
    settings = context.settings()
    findings = [*_other_server(context), *examine(settings, context.env)]
    if bundle is not None:
        from chowder_local.cli.bundle import write_bundle

        names = write_bundle(bundle, settings, context.env, findings)
        note(f"{bundle} contains {', '.join(names)}. Check it before you share it.")
    worst_is_fail = any(finding.level is Level.FAIL for finding in findings)
    if output is Output.JSON:
        show_json({"ok": not worst_is_fail, "findings": [asdict(finding) for finding in findings]})
        return int(worst_is_fail)
    for finding in findings:
        word, colour = MARKS[finding.level]
        say(f"{click.style(f'{word:<5}', fg=colour)} {finding.subject}: {finding.words}")
        if finding.cure is not None:
            say(f"      → {finding.cure}")
    return int(worst_is_fail)


def _other_server(context: Context) -> Iterator[Finding]:
    if (root_url := context.other_server()) is not None:
        words = (
            f"CHOWDER_BASE_URL names {root_url}, but these findings are about "
            f"{context.settings().data_dir}"
        )
        cure = "Unset it, or run 'doctor' where that server's data directory is."
        yield Finding("environment", Level.WARN, words, cure)


def examine(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, from the engine up to the model providers."""
    facts = _engine_facts(env)
    images = [] if isinstance(facts, ChowderError) else list(_images(settings, env))
    health, server = _server(settings)
    yield from checks.examine(settings, facts, images, health, [server])
    yield from _providers(settings, env)


def _engine_facts(env: Mapping[str, str]) -> EngineFacts | ChowderError:
    from chowder_local.engine.engine_facts import ask_engine

    try:
        return ask_engine(env)
    except ChowderError as failure:
        return failure


def _images(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    from chowder_local.engine.image_recipe import expected_tag
    from chowder_local.engine.images import is_there, read_file

    tag = expected_tag(settings)
    try:
        if is_there(tag, env):
            yield Finding("image", Level.OK, f"{tag} is there")
            yield from _shortcuts(read_file(tag, OBSERVATIONS_FILE, env))
            return
    except ChowderError as failure:
        yield Finding("image", Level.FAIL, str(failure))
        return
    if settings.image is not None:
        yield Finding("image", Level.FAIL, f"{tag} is not there", f"docker pull {tag}")
        return
    cure = "'up' builds it, and so does 'image build'; it takes some minutes."
    yield Finding("image", Level.WARN, f"{tag} is not there", cure)


def _shortcuts(content: bytes | None) -> Iterator[Finding]:
    observations = read_observations(content)
    version = None if observations is None else observations.openclaw
    yield from checks.shortcuts(find_misfits(observations), version)


def _providers(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    running = find_running(settings)
    named = settings.providers | dict(running.providers if running else {})
    endpoints = model_endpoints.endpoints(named, {}, env, is_offline=settings.offline)
    for endpoint in endpoints.values():
        yield checks.provider(endpoint, is_named=endpoint.name in named)


def _server(settings: Settings) -> tuple[dict[str, Any] | None, Finding]:
    from chowder_local.client import Client

    running = find_running(settings)
    try:
        if running is not None:
            with Client(running.root_url, timeout_s=5.0) as client:
                health = client.health()
            if health.get("status") == "ok":
                words = f"{health.get('version')} runs as process {health.get('pid')}"
                return health, Finding("server", Level.OK, words)
            words = f"degraded: {(health.get('engine') or {}).get('error')}"
            # The engine's error says how to fix it.
            return health, Finding("server", Level.FAIL, words)
        if not is_locked(settings):
            return None, Finding("server", Level.OK, "not running; 'up --detach' starts it")
        return None, Finding(
            "server", Level.WARN, "starting or stopping just now", "Run 'doctor' again."
        )
    except ChowderError as failure:
        if is_locked(settings):
            cure = f"Read {settings.log_file}; 'down' and then 'up' restart it."
            return None, Finding("server", Level.FAIL, str(failure), cure)
        words = "ended unexpectedly; agents and data are kept"
        return None, Finding("server", Level.WARN, words, "'up --detach' starts it again.")
