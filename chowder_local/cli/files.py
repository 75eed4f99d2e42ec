"""`files`: lists, reads, downloads and uploads an agent's files."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import Group, ensure_writable, output_option, yes_option
from chowder_local.cli.output import Output, format_time, show_list
from chowder_local.cli.resolve import find_instance
from chowder_local.core.formatting import size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.client import Client


@click.group(cls=Group)
def files() -> None:
    """List, read, download and upload an agent's files.

    A PATH is relative to the agent's OpenClaw home, where openclaw.json and workspace/ are.
    """


@files.command("ls")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("path", default=".")
@pass_client
def ls(client: Client, output: Output, instance: str, path: str) -> None:
    """List a folder; by default, the agent's home."""
    entries = client.files(find_instance(client, instance)["id"], path)
    headings = ("MODE", "SIZE", "CHANGED", "NAME")
    show_list(
        entries,
        headings,
        _row,
        output=output,
        wide={"PATH": "path"},
        if_empty="The folder is empty.",
    )


@files.command("cat")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("path")
@pass_client
def cat(client: Client, instance: str, path: str) -> None:
    """Print a file, byte for byte."""
    instance_id = find_instance(client, instance)["id"]
    with closing(client.download(instance_id, path)) as chunks:
        sys.stdout.buffer.writelines(chunks)


@files.command("get")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("path")
@click.argument("target", default=".", type=click.Path())
@yes_option
@click.pass_obj
def get(context: Context, instance: str, path: str, target: str, yes: bool) -> None:
    """Download a file to TARGET, a file or folder; by default, the current folder.

    It asks before it overwrites a file.
    """
    destination = Path(target)
    # A slash at the end means a folder, even if there is none.
    if destination.is_dir() or target.endswith("/"):
        destination /= PurePosixPath(path).name
    ensure_writable(destination, yes=yes)
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        with closing(client.download(instance_id, path)) as chunks:
            save(chunks, destination)


@files.command("put")
@click.argument("instance", shell_complete=complete_instance)
@click.argument("source", type=click.File("rb"))
@click.argument("path", default="workspace/")
@pass_client
def put(client: Client, instance: str, source: BinaryIO, path: str) -> None:
    """Upload a file of this machine ("-" is standard input) to PATH.

    If PATH is a folder or ends with "/", the file keeps its name. PATH is workspace/ by default.
    """
    client.upload(find_instance(client, instance)["id"], path, source)


def save(chunks: Iterable[bytes], path: Path, mode: int = 0o666) -> None:
    """Writes a whole file; if the chunks break off, the old one stays. The umask limits `mode`."""
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.touch(mode)
        with partial.open("wb") as file:
            file.writelines(chunks)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["permissions"],
        "" if entry["is_dir"] else size_of(entry["size"]),
        format_time(entry["mod_time"]),
        entry["name"] + ("/" if entry["is_dir"] else ""),
    )
