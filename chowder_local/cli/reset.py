"""`reset`: everything of one data directory goes, on the engine and on disk."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from filelock import FileLock, Timeout

from chowder_local.cli.options import Command, confirm, json_option, yes_option
from chowder_local.cli.output import say, show_json, show_result, waiting
from chowder_local.cli.server_process import find_running, stop_running
from chowder_local.client.abandoned_runs import end_abandoned
from chowder_local.core.errors.process import DataDirLocked, DataDirUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.cli.context import Context
    from chowder_local.core.settings import Settings
    from chowder_local.engine.store_resources import SweepReport


@click.command(cls=Command)
@json_option
@yes_option
@click.option(
    "--organization",
    "only",
    flag_value="organization",
    help="Only the organization's agents, scoped keys and faults; the server goes on. It is the "
    "default one, or that of CHOWDER_KEY.",
)
@click.option(
    "--abandoned",
    "only",
    flag_value="abandoned",
    help="Only agents of test runs that were killed; the server goes on, and nothing is asked.",
)
@click.pass_obj
def reset(context: Context, as_json: bool, yes: bool, only: str | None) -> None:
    """Remove every agent and all data, after asking.

    Stops the server, removes each container, volume and network of this data directory, then the
    database, keys and logs. The sandbox image stays: `image rm` removes it. With --organization,
    the running server removes what one organization has, and keeps the organization. With
    --abandoned, it removes what test runs have left that were killed.
    """
    if only == "abandoned":
        _end_abandoned(context, as_json)
        return
    if only == "organization":
        _reset_organization(context, as_json, yes)
        return
    context.require_local("reset")
    settings = context.settings()
    files = own_files(settings)
    if not files:
        nothing: dict[str, list[str]] = {
            "containers": [],
            "volumes": [],
            "networks": [],
            "files": [],
        }
        show_result(nothing, f"There is nothing in {settings.data_dir}.", as_json=as_json)
        return
    confirm(
        f"Remove every agent of {settings.data_dir}, with its files and conversations, "
        "and the database and keys?",
        yes=yes,
    )
    with waiting("Stopping the server") as update:
        stop_running(settings)
        lock = FileLock(settings.lock_file)
        try:
            # Held to the end, so that no server starts on what is half removed.
            with lock.acquire(timeout=0):
                update("Removing containers, volumes and networks")
                report = _sweep(settings, context)
                removed = _remove(own_files(settings), settings)
        except Timeout:
            raise DataDirLocked(str(settings.data_dir)) from None
    show_result(
        {**asdict(report), "files": removed},
        f"Removed {len(report.containers)} containers, {len(report.volumes)} volumes, "
        f"{len(report.networks)} networks and {len(removed)} files of {settings.data_dir}.",
        as_json=as_json,
    )


def _reset_organization(context: Context, as_json: bool, yes: bool) -> None:
    with context.client() as client:
        name = client.organization()["name"]
        confirm(
            f"Remove every agent of the organization {name}, with its files and conversations, "
            "and its scoped keys and faults?",
            yes=yes,
        )
        with waiting(f"Removing what {name} has"):
            removed = client.reset()
    show_result(
        removed,
        f"Removed {removed['instances']} agents, {removed['keys']} scoped keys and "
        f"{removed['faults']} faults of {name}.",
        as_json=as_json,
    )


def _end_abandoned(context: Context, as_json: bool) -> None:
    settings = context.settings()
    running = find_running(settings)
    base_url = None if running is None else running.root_url
    with waiting("Removing what killed test runs have left"):
        ended = list(end_abandoned(settings.leases_dir, context.env, base_url))
    gone = [name for name, is_gone in ended if is_gone]
    kept = [name for name, is_gone in ended if not is_gone]
    if as_json:
        show_json({"removed": gone, "kept": kept})
        return
    say(f"Removed the agents of {len(gone)} test runs.")
    for name in kept:
        say(f"{name}: kept, because its server is not there or refuses.")
    if kept:
        say(f"If a server is gone for good, remove the files in {settings.leases_dir}.")


def own_files(settings: Settings) -> list[Path]:
    """What we have put into the data directory; a person may keep other things there."""
    known = (
        settings.database_file,
        settings.secret_file,
        settings.default_key_file,
        settings.seed_file,
        settings.store_file,
        settings.run_file,
        settings.log_file,
        settings.lock_file,
    )
    # SQLite and we ourselves write files beside these, with a suffix: -wal, .part and so on.
    beside = {path for name in known for path in settings.data_dir.glob(f"{name.name}*")}
    if settings.key_file is not None and settings.key_file.exists():
        beside.add(settings.key_file)
    return sorted(
        beside | set(settings.snapshots_dir.glob("*")) | set(settings.leases_dir.glob("*")),
        # The lock goes last: while it is there, nobody else starts.
        key=lambda path: (path == settings.lock_file, path),
    )


def _sweep(settings: Settings, context: Context) -> SweepReport:
    from chowder_local.engine.store_resources import SweepReport, remove_store

    try:
        store_id = settings.store_file.read_text().strip()
    except FileNotFoundError:
        # No server has come as far as making something on the engine.
        return SweepReport()
    return remove_store(store_id, context.env)


def _remove(files: list[Path], settings: Settings) -> list[str]:
    removed = []
    try:
        for path in files:
            path.unlink(missing_ok=True)
            removed.append(str(path))
        for folder in (settings.snapshots_dir, settings.leases_dir, settings.data_dir):
            # A volume is not ours to remove.
            if folder.is_dir() and not folder.is_mount() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as failure:
        raise DataDirUnusable(f"{failure.filename} cannot be removed: {failure}") from failure
    return removed
