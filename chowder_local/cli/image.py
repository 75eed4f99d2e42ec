"""`image` and `disk`: what is stored on this machine, and how it is made and freed."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.options import (
    Command,
    Group,
    confirm,
    openclaw_option,
    output_option,
    yes_option,
)
from chowder_local.cli.output import Output, at, note, say, show_list, waiting
from chowder_local.core.domain import is_release
from chowder_local.core.errors import ChowderError
from chowder_local.core.wording import program, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.cli.context import Context
    from chowder_local.core.settings import Settings

SHOWN_USERS = 5
WARM = "warm sandboxes, other organizations' agents"
ALL = "all agents and warm sandboxes (a running server names each)"


@click.group(cls=Group)
def image() -> None:
    """Build, name, list and remove the images of sandboxes and of the server.

    The images are on this machine's engine, even if CHOWDER_BASE_URL names another server.
    """


@image.command("build")
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@openclaw_option
@click.option(
    "--server", is_flag=True, help="Build the image of the server itself, to run it in a container."
)
@click.pass_obj
def build(context: Context, no_cache: bool, version: str | None, server: bool) -> None:
    """Build the image that this version uses, and print its tag."""
    from chowder_local.engine.images import build as build_sandbox
    from chowder_local.engine.server_container import build_server

    if server and version:
        raise click.UsageError("--server and --openclaw name two images; build one at a time.")
    name = "server" if server else "sandbox"
    build_image = build_server if server else partial(build_sandbox, version=version)
    with waiting(f"Building the {name} image") as progress:
        tag = build_image(context.settings(), progress, env=context.env, no_cache=no_cache)
    say(tag)


@image.command("tag")
@openclaw_option
@click.pass_obj
def tag(context: Context, version: str | None) -> None:
    """Print the tag of the image that this version uses, even if it is not built."""
    from chowder_local.engine.image_recipe import expected_tag

    say(expected_tag(context.settings(), version))


@image.command("ls")
@output_option
@click.pass_obj
def ls(context: Context, output: Output) -> None:
    """List the images built here; * marks those that this version uses.

    Instances may ask for the other OpenClaw releases in the list.
    """
    from chowder_local.engine import images
    from chowder_local.engine.image_recipe import expected_tag
    from chowder_local.engine.server_container import server_tag

    used = {expected_tag(context.settings()), server_tag()}
    rows = [
        {
            **asdict(each),
            "created_at": each.created_at.isoformat(),
            "used": each.tag in used,
        }
        for each in images.list_images(context.env)
    ]
    show_list(
        rows,
        {
            "": lambda image: "*" if image["used"] else "",
            "TAG": "tag",
            "OPENCLAW": lambda image: image["openclaw_version"] or image["kind"],
            "SIZE": lambda image: size_of(image["size_bytes"]),
            "CREATED": at("created_at"),
        },
        output=output,
        if_empty="There is no image. Build it with: chowder-local image build",
    )


@image.command("rm")
@click.argument("tag", required=False)
@yes_option
@click.pass_obj
def rm(context: Context, tag: str | None, yes: bool) -> None:
    """Remove an image that was built here; by default, the one that this version uses.

    It asks first if agents or snapshots of the data directory need the image.
    """
    from chowder_local.engine import images
    from chowder_local.engine.image_recipe import expected_tag

    settings = context.settings()
    tag = tag or expected_tag(settings)
    if users := _users(settings, tag):
        more = f" and {len(users) - SHOWN_USERS} more" if len(users) > SHOWN_USERS else ""
        confirm(
            f"{tag} is needed by {', '.join(users[:SHOWN_USERS])}{more}: without it they cannot "
            "start, be forked or restored until it is built again. Remove it?",
            yes=yes,
        )
    images.remove(tag, context.env)
    note(f"{tag} is removed.")


def _users(settings: Settings, tag: str) -> list[str]:
    """The agents and snapshots of the data directory that need an image."""
    from chowder_local.core.secrets import SecretBox
    from chowder_local.engine.image_recipe import expected_tag, openclaw_version
    from chowder_local.store.snapshots import read_versions_in_use

    if not settings.database_file.exists():
        return []
    in_use = read_versions_in_use(settings.database_file, SecretBox.load(settings.secret_file))
    own = openclaw_version(settings)

    def image_of(version: str | None) -> str:
        # Any other text, such as v1, stands for the server's own release.
        is_other = version is not None and is_release(version) and version != own
        return expected_tag(settings, version if is_other else None)

    return [name for name, version in in_use if image_of(version) == tag]


@click.command(cls=Command)
@output_option
@click.pass_obj
def disk(context: Context, output: Output) -> None:
    """Show what agents, snapshots, images and caches take, and what frees each.

    The engine measures its volumes for this, which takes seconds. The sizes are of this machine's
    engine and data directory, even if CHOWDER_BASE_URL names another server.
    """
    show_list(
        [{"what": what, "size_bytes": size, "free": free} for what, size, free in _parts(context)],
        {
            "WHAT": "what",
            "SIZE": lambda part: size_of(part["size_bytes"]),
            "FREE IT WITH": "free",
        },
        output=output,
    )


def _parts(context: Context) -> Iterator[tuple[str, int, str | None]]:
    """Each part with its size, and the command that frees it."""
    from chowder_local.engine.engine_facts import ask_disk_use

    settings = context.settings()
    store_id = settings.store_file.read_text().strip() if settings.store_file.exists() else ""
    use = ask_disk_use(context.env, store_id)
    # The command names the data directory, because agents of another may have the same names.
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
