"""`reset`: removes all that a data directory, an organization or a killed test run has."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from filelock import FileLock, Timeout

from chowder_local.cli.options import Command, confirm, output_option, yes_option
from chowder_local.cli.output import Output, count_of, note, say, show_json, show_result, waiting
from chowder_local.cli.run_file import find_running
from chowder_local.cli.seed import other_memories
from chowder_local.cli.server_process import stop_running
from chowder_local.client.abandoned_runs import end_abandoned
from chowder_local.core.errors.process import DataDirLocked, DataDirUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.cli.context import Context
    from chowder_local.core.settings import Settings
    from chowder_local.engine.store_resources import SweepReport


@click.command(cls=Command)
@output_option
@yes_option
@click.option(
    "--organization",
    "only",
    flag_value="organization",
    help="Remove only the agents, snapshots, scoped keys, faults and scripted replies of one "
    "organization: the default one, or that of CHOWDER_KEY. The server keeps running.",
)
@click.option(
    "--abandoned",
    "only",
    flag_value="abandoned",
    help="Remove only the agents of killed test runs, without asking. The server keeps running.",
)
@click.pass_obj
def reset(context: Context, output: Output, yes: bool, only: str | None) -> None:
    """Remove every agent and all data, after asking.

    Stops the server, removes each container, volume and network of this data directory, then the
    database, keys, logs and snapshots. Keys that `seed` has made on other servers stay, and so does
    the sandbox image: `image rm` removes it. With
    --organization, the running server removes what one organization has, and keeps the
    organization. With --abandoned, it removes what killed test runs left.
    """
    if only == "abandoned":
        _end_abandoned(context, output)
        return
    if only == "organization":
        _reset_organization(context, output, yes)
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
            "kept": [str(path) for path in other_memories(settings)],
        }
        show_result(nothing, f"There is nothing in {settings.data_dir}.", output=output)
        return
    confirm(
        f"Remove every agent of {settings.data_dir}, with its files and conversations, "
        "and the database, keys and snapshots?",
        yes=yes,
    )
    with waiting("Stopping the server") as update:
        stop_running(settings)
        lock = FileLock(settings.lock_file)
        try:
            # The lock is held to the end, so that no server starts on half-removed data.
            with lock.acquire(timeout=0):
                update("Removing containers, volumes and networks")
                report = _sweep(settings, context)
                removed = _remove(own_files(settings), settings)
        except Timeout:
            raise DataDirLocked(str(settings.data_dir)) from None
    kept = [str(path) for path in other_memories(settings)]
    show_result(
        {**asdict(report), "files": removed, "kept": kept},
        f"Removed {count_of(len(report.containers), 'container')}, "
        f"{count_of(len(report.volumes), 'volume')}, {count_of(len(report.networks), 'network')} "
        f"and {count_of(len(removed), 'file')} of {settings.data_dir}.",
        output=output,
    )
    for path in kept:
        note(f"Kept {path}, which has the keys of organizations on another server.")


def _reset_organization(context: Context, output: Output, yes: bool) -> None:
    with context.client() as client:
        name = client.organization()["name"]
        confirm(
            f"Remove every agent of the organization {name}, with its files and conversations, "
            "and its snapshots, scoped keys, faults and scripted replies?",
            yes=yes,
        )
        with waiting(f"Resetting the organization {name}"):
            removed = client.reset()
    show_result(
        removed,
        f"Removed {count_of(removed['instances'], 'agent')}, "
        f"{count_of(removed['snapshots'], 'snapshot')}, {count_of(removed['keys'], 'scoped key')}, "
        f"{count_of(removed['faults'], 'fault')} and all scripted replies of {name}.",
        output=output,
    )


def _end_abandoned(context: Context, output: Output) -> None:
    settings = context.settings()
    running = find_running(settings)
    base_url = None if running is None else running.root_url
    with waiting("Removing what killed test runs left"):
        results = list(end_abandoned(settings.leases_dir, context.env, base_url))
    removed = [name for name, is_removed in results if is_removed]
    kept = [name for name, is_removed in results if not is_removed]
    if output is Output.JSON:
        show_json({"removed": removed, "kept": kept})
        return
    say(f"Removed the agents of {count_of(len(removed), 'test run')}.")
    for name in kept:
        say(f"{name}: kept, because its server does not answer or refuses.")
    if kept:
        say(f"If a server is gone for good, remove the files in {settings.leases_dir}.")


def own_files(settings: Settings) -> list[Path]:
    """The files that the server keeps in its data directory, where a person may keep others."""
    names = (
        settings.database_file,
        settings.secret_file,
        settings.default_key_file,
        settings.seed_file,
        settings.store_file,
        settings.run_file,
        settings.log_file,
        settings.lock_file,
    )
    # SQLite and the server write files beside these, with suffixes such as -wal and .part.
    files = {path for name in names for path in settings.data_dir.glob(f"{name.name}*")}
    if settings.key_file is not None and settings.key_file.exists():
        files.add(settings.key_file)
    return sorted(
        files | set(settings.snapshots_dir.glob("*")) | set(settings.leases_dir.glob("*")),
        # The lock is removed last: until then, no server starts.
        key=lambda path: (path == settings.lock_file, path),
    )


def _sweep(settings: Settings, context: Context) -> SweepReport:
    from chowder_local.engine.store_resources import SweepReport, remove_store

    try:
        store_id = settings.store_file.read_text().strip()
    except FileNotFoundError:
        # No server has made anything on the engine.
        return SweepReport()
    return remove_store(store_id, context.env)


def _remove(files: list[Path], settings: Settings) -> list[str]:
    removed = []
    try:
        for path in files:
            path.unlink(missing_ok=True)
            removed.append(str(path))
        for folder in (settings.snapshots_dir, settings.leases_dir, settings.data_dir):
            # A mount point cannot be removed.
            if folder.is_dir() and not folder.is_mount() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as failure:
        raise DataDirUnusable(f"{failure.filename} cannot be removed: {failure}") from failure
    return removed
