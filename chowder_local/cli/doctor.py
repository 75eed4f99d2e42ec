"""`doctor`: checks everything that an agent needs, and packs the facts for a bug report."""

from __future__ import annotations

import json
import os
import platform
import re
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local import __version__
from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, note, say, show_json
from chowder_local.cli.reset import own_files
from chowder_local.cli.run_file import find_running
from chowder_local.cli.server_process import is_locked
from chowder_local.core import model_endpoints
from chowder_local.core.errors import ChowderError
from chowder_local.core.secrets import SecretBox, redact, secret_values
from chowder_local.diagnostics import checks
from chowder_local.diagnostics.checks import Finding, Level
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE, find_misfits, read_observations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

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
    help="Write an archive for a bug report to this file, without keys and tokens. Logs in it may "
    "quote what agents were told and have answered.",
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
        names = write_bundle(bundle, settings, context.env, findings)
        note(
            f"{bundle} contains {', '.join(names)}. Logs may quote what agents were told and have "
            "answered: check them before you share it."
        )
    worst_is_fail = any(finding.level is Level.FAIL for finding in findings)
    if output is Output.JSON:
        show_json({"ok": not worst_is_fail, "findings": [asdict(finding) for finding in findings]})
        return int(worst_is_fail)
    for finding in findings:
        word, colour = MARKS[finding.level]
        say(f"{finding.subject}: {finding.words}", label=f"{word:<5}", colour=colour)
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
    if settings.has_lost_database:
        yield _left(settings, env)
    yield from _providers(settings, env)


def _left(settings: Settings, env: Mapping[str, str]) -> Finding:
    """What there is of agents whose database is lost."""
    from chowder_local.engine.store_resources import list_store

    cure = "Put a copy of the database back to keep it, or remove it all with 'reset'."
    files = [each for each in own_files(settings) if each.parent != settings.snapshots_dir]
    snapshots = [each.name for each in settings.snapshots_dir.glob("*")]
    left = {"snapshots": snapshots, "files": [each.name for each in files]}
    problem = ""
    try:
        left = asdict(list_store(settings.store_file.read_text().strip(), env)) | left
    except ChowderError as failure:
        problem = f"; {failure}"
    parts = [f"{kind}: {', '.join(names)}" for kind, names in left.items() if names]
    return Finding("what is left", Level.WARN, f"{'; '.join(parts)}{problem}", cure)


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


LOG_BYTES = 512 * 1024
"""How much of a log's end is packed."""
AGENT_LOG_LINES = 1000
CALL_TIMEOUT_S = 5.0
SHOWN_CONDITIONS = {"call_number", "turn", "model", "provider", "tool"}
"""What a breakpoint matches by, without texts of people and agents."""
HELD_CALL_MEMBERS = {"id", "instance_id", "turn_id", "provider", "path", "held_at", "until"}
APPROVAL_MEMBERS = {"id", "since", "until", "problem"}
ACTIVITY_MEMBERS = {
    *("status", "since", "turns", "tasks", "problem", "trace_id", "task_id", "kind", "state", "at"),
    *("model", "model_calls", "model_call_id", "tools", "name"),
}

_SANDBOX_ID = re.compile(r"chowder-[0-9a-f]{12}")


def write_bundle(
    path: Path, settings: Settings, env: Mapping[str, str], findings: Sequence[Finding]
) -> list[str]:
    """Writes the archive with mode 0600, and returns the names of its files.

    A file whose content cannot be read has the error instead. Raises ClickException if the archive
    exists or cannot be written.
    """
    contents: dict[str, Callable[[], Any]] = {
        "versions.json": _versions,
        "settings.json": lambda: settings.model_dump(mode="json"),
        "findings.json": lambda: [asdict(finding) for finding in findings],
        "health.json": lambda: _health(settings),
        "control.json": lambda: _control(settings),
        "containers.json": lambda: _containers(settings, env),
        "server.log": lambda: _log(settings.log_file),
    }
    if (former := settings.log_file.with_name("server.log.1")).exists():
        contents["server.log.1"] = lambda: _log(former)
    texts = {name: _text(content) for name, content in contents.items()}
    texts |= _agent_logs(settings, env)
    sandbox_ids = {each for text in texts.values() for each in _SANDBOX_ID.findall(text)}
    secrets = {*secret_values(env), *_own_secrets(settings, sandbox_ids)}
    # In JSON some characters of a secret are escaped.
    secrets |= {json.dumps(each, ensure_ascii=False)[1:-1] for each in secrets}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, text in texts.items():
                archive.writestr(name, redact(text, secrets))
    except OSError as failure:
        raise click.ClickException(f"{path} cannot be written: {failure.strerror}.") from failure
    return list(texts)


def _text(content: Callable[[], Any]) -> str:
    try:
        value = content()
    except ChowderError as failure:
        value = {"problem": str(failure)}
    except OSError as failure:
        value = {"problem": failure.strerror}
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _versions() -> dict[str, str]:
    from chowder_local.engine.image_recipe import openclaw_version

    return {
        "chowder-local": __version__,
        "openclaw": openclaw_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _health(settings: Settings) -> Any:
    from chowder_local.client import Client

    running = find_running(settings)
    if running is None:
        return {"problem": "no server runs"}
    with Client(running.root_url, timeout_s=CALL_TIMEOUT_S) as client:
        return client.health()


def _control(settings: Settings) -> Any:
    """The default organization's budgets, breakpoints, held calls and approvals, and what its
    agents are doing, without texts of people and agents.
    """
    from chowder_local.client import Client
    from chowder_local.client.transport import if_found

    running = find_running(settings)
    if running is None:
        return {"problem": "no server runs"}
    key = settings.default_key_file.read_text().strip()
    with Client(running.root_url, key, timeout_s=CALL_TIMEOUT_S) as client:
        ids = [each["id"] for each in client.instances()]
        budgets = {each or "organization": if_found(client.budget, each) for each in (None, *ids)}
        breakpoints = {each: if_found(client.breakpoint, each) for each in ids}
        held = client.held_calls()
        approvals = {each: _or_problem(client.approvals, each) for each in ids}
        activity = {each: _or_problem(client.activity, each) for each in ids}
    for each in breakpoints.values():
        if each is not None:
            given = {name: value for name, value in each["match"].items() if value is not None}
            # Of the other members, the names are enough.
            each["match"] = {
                name: value if name in SHOWN_CONDITIONS else "…" for name, value in given.items()
            }
    return {
        "budgets": {name: each for name, each in budgets.items() if each is not None},
        "breakpoints": {name: each for name, each in breakpoints.items() if each is not None},
        "held_calls": _without_others(held, HELD_CALL_MEMBERS),
        "approvals": _without_others(
            {name: each for name, each in approvals.items() if each}, {*ids, *APPROVAL_MEMBERS}
        ),
        "activity": _without_others(activity, {*ids, *ACTIVITY_MEMBERS}),
    }


def _or_problem(show: Callable[[str], Any], instance_id: str) -> Any:
    try:
        return show(instance_id)
    except ChowderError as failure:
        return {"problem": str(failure)}


def _without_others(value: Any, members: Collection[str]) -> Any:
    """The value with these members only, at every level."""
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name in members}
        return {name: _without_others(each, members) for name, each in kept.items()}
    if isinstance(value, list):
        return [_without_others(each, members) for each in value]
    return value


def _containers(settings: Settings, env: Mapping[str, str]) -> Any:
    from chowder_local.engine.store_resources import inspect_store

    return inspect_store(settings.store_file.read_text().strip(), env)


def _agent_logs(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    from chowder_local.engine.store_resources import read_logs

    # Without an engine, containers.json says why there are none.
    with suppress(ChowderError, OSError):
        logs = read_logs(settings.store_file.read_text().strip(), env, AGENT_LOG_LINES)
        return {f"agents/{name}.log": text[-LOG_BYTES:] for name, text in logs.items()}
    return {}


def _log(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace")


def _own_secrets(settings: Settings, sandbox_ids: Iterable[str]) -> set[str]:
    secrets: set[str] = set()
    # A key that cannot be read is in no file of the archive.
    with suppress(OSError):
        secrets.add(settings.default_key_file.read_text().strip())
    if settings.secret_file.is_file():
        with suppress(ChowderError):
            secret_box = SecretBox.load(settings.secret_file)
            for each in sandbox_ids:
                secrets |= {secret_box.gateway_token(each), secret_box.relay_token(each)}
    return secrets
