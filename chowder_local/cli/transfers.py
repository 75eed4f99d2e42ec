"""`instances fork`, `export` and `import`: agents copied, here and to other machines."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import ensure_writable, yes_option
from chowder_local.cli.instances import WAIT_TIMEOUT_S, instances, show_made
from chowder_local.cli.output import note
from chowder_local.cli.resolve import find_instance


@instances.command("fork")
@data_dir_option
@json_option
@click.argument("instance")
@click.argument("name")
@click.option("--wait/--no-wait", default=True, help="Return once it is running (the default).")
@click.pass_obj
def fork(context: Context, as_json: bool, instance: str, name: str, wait: bool) -> None:
    """Make a new agent that is as INSTANCE is now; then each goes its own way."""
    with context.client() as client:
        made = client.fork(find_instance(client, instance)["id"], name)
        show_made(client, made, as_json=as_json, wait=wait, timeout=WAIT_TIMEOUT_S)


@instances.command("export")
@data_dir_option
@click.argument("instance")
@click.argument("target", required=False, type=click.Path(path_type=Path, allow_dash=True))
@yes_option
@click.pass_obj
def export(context: Context, instance: str, target: Path | None, yes: bool) -> None:
    """Write an agent to TARGET ("-": standard output), for another machine.

    Credentials do not go along: no keys, tokens, channels or other secrets of its configuration.
    What was said, and its files, do. Without TARGET it is NAME.chowder.tar, here. It asks before it
    overwrites a file.
    """
    with context.client() as client:
        found = find_instance(client, instance)
        path = _file_of(found["name"]) if target is None else target
        if str(path) != "-":
            ensure_writable(path, yes=yes)
        with closing(client.export(found["id"])) as chunks:
            if str(path) == "-":
                for chunk in chunks:
                    sys.stdout.buffer.write(chunk)
                return
            # What breaks off takes nothing's place, and nobody else may read what was said.
            partial = path.with_name(f"{path.name}.part")
            try:
                partial.touch(mode=0o600)
                with partial.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    note(f"{found['name']} is in {path}.")


@instances.command("import")
@data_dir_option
@json_option
@click.argument("source", type=click.File("rb"))
@click.argument("name", required=False)
@click.option("--wait/--no-wait", default=True, help="Return once it is running (the default).")
@click.pass_obj
def take_in(
    context: Context, as_json: bool, source: BinaryIO, name: str | None, wait: bool
) -> None:
    """Make an agent of a file that `export` wrote ("-" is the standard input)."""
    with context.client() as client:
        made = client.import_instance(source, name)
        show_made(client, made, as_json=as_json, wait=wait, timeout=WAIT_TIMEOUT_S)


def _file_of(name: str) -> Path:
    plain = "".join(each if each.isalnum() or each in "-_. " else "_" for each in name)
    return Path(f"{plain.lstrip('.')}.chowder.tar")
