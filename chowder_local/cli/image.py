"""`image`: the images of sandboxes and of the server on this machine's engine."""

from __future__ import annotations

from dataclasses import asdict

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import Group
from chowder_local.cli.output import note, say, show_json, show_table, waiting
from chowder_local.core.formatting import size_of


@click.group(cls=Group)
@data_dir_option
def image() -> None:
    """Build, name, list and remove the images of sandboxes and of the server.

    They are those of this machine's engine, whichever server CHOWDER_BASE_URL names.
    """


@image.command("build")
@data_dir_option
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option("--server", is_flag=True, help="The image of the server itself, to run it by Docker.")
@click.pass_obj
def build(context: Context, no_cache: bool, server: bool) -> None:
    """Build the image that this version uses, and print its tag."""
    from chowder_local.engine import images

    if server:
        from chowder_local.engine.server_image import build_server

        with waiting("Building the server image") as progress:
            tag = build_server(context.settings(), progress, env=context.env, no_cache=no_cache)
        say(tag)
        return
    with waiting("Building the sandbox image") as progress:
        tag = images.build(context.settings(), progress, env=context.env, no_cache=no_cache)
    say(tag)


@image.command("tag")
@data_dir_option
@click.pass_obj
def tag(context: Context) -> None:
    """Print the tag of the image that this version uses, built or not; asks no engine."""
    from chowder_local.engine.image_recipe import expected_tag

    say(expected_tag(context.settings()))


@image.command("ls")
@data_dir_option
@json_option
@click.pass_obj
def ls(context: Context, as_json: bool) -> None:
    """List the images built here; * marks those that this version uses."""
    from chowder_local.engine import images
    from chowder_local.engine.image_recipe import expected_tag
    from chowder_local.engine.server_image import server_tag

    used = {expected_tag(context.settings()), server_tag()}
    found = images.list_images(context.env)
    if as_json:
        show_json(
            [
                {
                    **asdict(each),
                    "created_at": each.created_at.isoformat(),
                    "used": each.tag in used,
                }
                for each in found
            ]
        )
    elif not found:
        note("There is no image. Build it with: chowder-local image build")
    else:
        show_table(
            ("", "TAG", "OPENCLAW", "SIZE", "CREATED"),
            [
                (
                    "*" if each.tag in used else "",
                    each.tag,
                    each.openclaw_version or each.kind,
                    size_of(each.size_bytes),
                    f"{each.created_at:%Y-%m-%d %H:%M}",
                )
                for each in found
            ],
        )


@image.command("rm")
@data_dir_option
@click.argument("tag", required=False)
@click.pass_obj
def rm(context: Context, tag: str | None) -> None:
    """Remove an image that was built here; without TAG the one that this version uses."""
    from chowder_local.engine import images
    from chowder_local.engine.image_recipe import expected_tag

    tag = tag or expected_tag(context.settings())
    images.remove(tag, context.env)
    note(f"{tag} is removed.")
