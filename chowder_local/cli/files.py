"""`files`: lists, reads, downloads and uploads an agent's files."""

from __future__ import annotations

import sys
from contextlib import closing
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import Group, ensure_writable, output_option, yes_option
from chowder_local.cli.output import Output, count_of, format_time, note, show_list, waiting
from chowder_local.cli.resolve import find_instance
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.wording import MOMENT_S, size_of

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
@click.argument("source", type=click.Path(exists=True, allow_dash=True))
@click.argument("path", default="workspace/")
@pass_client
def put(client: Client, instance: str, source: str, path: str) -> None:
    """Upload a file ("-" is standard input) or a folder of this machine to PATH.

    If PATH is a folder or ends with "/", the file or folder keeps its name. PATH is workspace/ by
    default. Of a folder, empty folders and links to other folders are left out.
    """
    instance_id = find_instance(client, instance)["id"]
    folder = Path(source)
    if source == "-" or not folder.is_dir():
        with click.open_file(source, "rb") as file:
            client.upload(instance_id, path, cast("BinaryIO", file))
        return
    if path.endswith("/") or _is_folder(client, instance_id, path):
        path = f"{path.rstrip('/')}/{folder.resolve().name}"
    count = put_folder(client, instance_id, folder, path)
    note(f"{count_of(count, 'file')} put into {path}.")


def put_folder(client: Client, instance_id: str, folder: Path, path: str) -> int:
    """Uploads the files of a folder to the folder `path`; returns how many they are."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    with waiting(f"Uploading {count_of(len(files), 'file')}", after_s=MOMENT_S) as update:
        for number, each in enumerate(files, 1):
            name = each.relative_to(folder).as_posix()
            update(f"Uploading {number} of {len(files)}: {name}")
            with each.open("rb") as file:
                client.upload(instance_id, f"{path}/{name}", file)
    return len(files)


def _is_folder(client: Client, instance_id: str, path: str) -> bool:
    try:
        client.files(instance_id, path)
    except ApiRefused as refused:
        if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            return False
        raise
    return True


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
