"""`disk`: what is stored on this machine, and the command that frees each part."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, show_list
from chowder_local.core.errors import ChowderError
from chowder_local.core.wording import program, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.cli.context import Context

WARM = "warm sandboxes, other organizations' agents"
ALL = "all agents and warm sandboxes (a running server names each)"


@click.command(cls=Command)
@output_option
@click.pass_obj
def disk(context: Context, output: Output) -> None:
    """Show what agents, snapshots, images and caches take, and what frees each.

    The engine measures its volumes for this, which takes seconds. The sizes are of this machine's
    engine and data directory, even if CHOWDER_BASE_URL names another server.
    """
    show_list(
        [{"what": what, "size_bytes": size, "free": free} for what, size, free in _rows(context)],
        ("WHAT", "SIZE", "FREE IT WITH"),
        lambda row: (row["what"], size_of(row["size_bytes"]), row["free"] or "-"),
        output=output,
    )


def _rows(context: Context) -> Iterator[tuple[str, int, str | None]]:
    """Each part with its size, and the command that frees it."""
    from chowder_local.engine.engine_facts import ask_disk_use

    settings = context.settings()
    store_id = settings.store_file.read_text().strip() if settings.store_file.exists() else ""
    use = ask_disk_use(context.env, store_id)
    # Another data directory may have agents of the same names.
    command = program(settings.data_dir)
    names = _agents(context)
    named = [(size, names[each]) for each, size in use.sandboxes.items() if names and each in names]
    for size, name in sorted(named, reverse=True):
        yield f"agent {name}", size, f"{command} instances rm {shlex.quote(name)}"
    rest = sum(use.sandboxes.values()) - sum(size for size, _ in named)
    yield (ALL if names is None else WARM), rest, None
    snapshots = _size(settings.snapshots_dir)
    yield "snapshots", snapshots, f"{command} snapshots rm SNAPSHOT"
    yield "database, keys and log", _size(settings.data_dir) - snapshots, None
    yield "other data directories' agents", use.other_stores, "chowder-local reset --data-dir DIR"
    for tag, size in use.removable_images.items():
        yield f"image {tag}", size, f"chowder-local image rm {tag}"
    for tag, size in use.base_images.items():
        yield f"image {tag}", size, f"docker image rm {tag}"
    if use.build_cache is not None:
        yield "the engine's build cache", use.build_cache, "docker builder prune"


def _agents(context: Context) -> dict[str, str] | None:
    """The default organization's agents by the id of the sandbox; None if no server runs."""
    with suppress(ChowderError), context.for_data_dir().client() as client:
        return {str(each["sandbox_id"]): each["name"] for each in client.instances()}
    return None


def _size(folder: Path) -> int:
    files: Any = folder.rglob("*") if folder.exists() else ()
    return sum(each.stat().st_size for each in files if each.is_file())
