"""`files`: what is in an agent's home, and the way in and out of it."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import Group, ensure_writable, yes_option
from chowder_local.cli.output import note, show_json, show_table
from chowder_local.cli.resolve import find_instance
from chowder_local.core.formatting import size_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.group(cls=Group)
@data_dir_option
def files() -> None:
    """List, read, fetch and send an agent's files.

    A PATH is relative to the agent's OpenClaw home, where openclaw.json and workspace/ are.
    """


@files.command("ls")
@data_dir_option
@json_option
@click.argument("instance")
@click.argument("path", default=".")
@click.pass_obj
def ls(context: Context, as_json: bool, instance: str, path: str) -> None:
    """List a folder; without PATH the agent's home."""
    with context.client() as client:
        found = client.files(find_instance(client, instance)["id"], path)
    if as_json:
        show_json(found)
        return
    if not found:
        note("There is nothing in it.")
        return
    show_table(
        ("MODE", "SIZE", "CHANGED", "NAME"),
        [
            (
                each["permissions"],
                "" if each["is_dir"] else size_of(each["size"]),
                each["mod_time"][:16].replace("T", " "),
                each["name"] + ("/" if each["is_dir"] else ""),
            )
            for each in found
        ],
    )


@files.command("cat")
@data_dir_option
@click.argument("instance")
@click.argument("path")
@click.pass_obj
def cat(context: Context, instance: str, path: str) -> None:
    """Print a file, byte for byte."""
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        with closing(client.download(instance_id, path)) as chunks:
            _pour(chunks, sys.stdout.buffer)


@files.command("get")
@data_dir_option
@click.argument("instance")
@click.argument("path")
@click.argument("target", default=".", type=click.Path())
@yes_option
@click.pass_obj
def get(context: Context, instance: str, path: str, target: str, yes: bool) -> None:
    """Fetch a file to TARGET, a file or folder of this machine; without it, to here.

    It asks before it overwrites a file.
    """
    chosen = Path(target)
    # With a slash at its end it is to be a folder, whether there is one or not.
    if chosen.is_dir() or target.endswith("/"):
        chosen /= PurePosixPath(path).name
    ensure_writable(chosen, yes=yes)
    # What breaks off takes nothing's place.
    partial = chosen.with_name(f"{chosen.name}.part")
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        try:
            with closing(client.download(instance_id, path)) as chunks, partial.open("wb") as file:
                _pour(chunks, file)
            partial.replace(chosen)
        finally:
            partial.unlink(missing_ok=True)


@files.command("put")
@data_dir_option
@click.argument("instance")
@click.argument("source", type=click.File("rb"))
@click.argument("path", default="workspace/")
@click.pass_obj
def put(context: Context, instance: str, source: BinaryIO, path: str) -> None:
    """Send a file of this machine ("-" is the standard input) to PATH.

    If PATH is a folder or ends with "/", the file keeps its name; without PATH that is workspace/.
    """
    with context.client() as client:
        client.upload(find_instance(client, instance)["id"], path, source)


def _pour(chunks: Iterator[bytes], file: BinaryIO) -> None:
    for chunk in chunks:
        file.write(chunk)
