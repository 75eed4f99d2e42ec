"""`pull`, `push` and the `diff` of agents of another server, by its published API alone."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chowder_local.cli.options import Command, confirm, yes_option
from chowder_local.cli.output import (
    Output,
    count_of,
    note,
    say,
    show_json,
    waiting,
)
from chowder_local.cli.seed import SEED_PATH, open_memory, read_file, seed_server
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from chowder_local.cli.context import Context
    from chowder_local.client.remote import RemoteClient
    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization
    from chowder_local.seeding.home import FileIndex
    from chowder_local.seeding.plan import SeedStep
    from chowder_local.seeding.remote import RemoteTarget
    from chowder_local.seeding.target import CurrentOrganization, Memory

KEY = "CHOWDER_REMOTE_KEY"
MAX_SHOWN = 20
"""How many files a question or a note names."""


@click.command(cls=Command)
@click.argument("url")
@click.argument("instance")
@click.option("--as", "name", help="Its name here; the same as there if it is left out.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the seed file and the agent's files; by default one with its name here.",
)
@click.option(
    "--take",
    "taken",
    multiple=True,
    metavar="PATH",
    help="Copy this file or folder of the agent, too, although a program may obey it. Repeatable.",
)
@yes_option
@click.pass_obj
def pull(
    context: Context,
    url: str,
    instance: str,
    name: str | None,
    folder: Path | None,
    taken: tuple[str, ...],
    yes: bool,
) -> None:
    """Copy the agent INSTANCE of another server, such as https://api.example/v1, to this one.

    The key is read from CHOWDER_REMOTE_KEY; a scoped one with `read` and `files` is enough.
    Configuration and files come into a folder with a seed file, which can be committed, and make an
    agent here. A second run copies what has changed. Files that git, an editor or a shell may obey
    are left out. At the end, it says what is not copied.
    """
    from chowder_local.seeding.pull import SEED_FILE, Pull
    from chowder_local.seeding.remote import find_instance

    # Without a server, the copy would be for nothing.
    context.root_url()
    with _client(context, url) as client:
        found = find_instance(client, instance)
        name = name or str(found["name"])
        folder = folder or Path(re.sub(r"[^\w.-]+", "-", name).strip(".-") or "agent")
        with waiting(f"Reading {name}") as update:
            index = _index(open_memory(context, _root(url)))
            copy = Pull(client, found, name, folder, index, update, taken)
            changed = copy.plan()
        if changed:
            files = ", ".join(changed[:MAX_SHOWN])
            confirm(f"Overwrite what was changed in {folder} ({files})?", yes=yes)
        with waiting(f"Copying {name}") as update:
            copy.report = update
            copy.take()
            copy.note_rest()
    seed_file = folder / SEED_FILE
    say(f"{name} is in {folder}. Its seed file is {seed_file}.")
    try:
        seed_server(context, read_file(context, seed_file), _index(open_memory(context)))
    finally:
        note("Not copied:")
        for each in copy.notes:
            note(f"- {each}")


@click.command(cls=Command)
@click.argument("file", type=SEED_PATH)
@click.argument("url")
@click.argument("instance", required=False)
@click.option(
    "--delete",
    is_flag=True,
    help="Remove settings and replaced keys, after asking, and name the files that stay.",
)
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@yes_option
@click.pass_obj
def push(
    context: Context,
    file: Path,
    url: str,
    instance: str | None,
    delete: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring agents of another server to what the seed file FILE declares, after showing the plan.

    The key is read from CHOWDER_REMOTE_KEY. Configuration, files, skills and scoped keys are
    created or changed; nothing is stopped, and nothing removed without --delete. With INSTANCE, the
    only agent of the file goes to the one of that name. A file cannot be removed: the API has no
    call for it.
    """
    from chowder_local.seeding.remote import RemoteTarget, published_part
    from chowder_local.seeding.run import take

    organization, left = published_part(read_file(context, file), file, instance)
    host, key, memory = _root(url), _key(context), open_memory(context, _root(url))
    removal = partial(_removal, url)
    with RemoteTarget(
        host, key, memory, note, public_url=url, removal=removal, index=_index(memory)
    ) as target:
        target.may_delete, target.ca_bundle = delete, context.settings().ca_bundle
        steps, state = _plan(target, organization)
        for each in left:
            note(f"Not pushed: {each}. The published API has no call for it, or it is for tests.")
        staying = list(target.only_there(organization))
        for each in staying[:MAX_SHOWN]:
            note(f"Stays: {each}")
        if staying:
            note(
                "The API has no call that removes a file. What the seed file does not have stays "
                f"({count_of(len(staying), 'file')}), also with --delete: have the agent remove it."
            )
        if not steps:
            is_same = f"{url} is as declared: nothing is to be changed."
            say("Nothing else is to be changed." if staying else is_same)
        if not steps or dry_run:
            return
        confirm(f"Take {count_of(len(steps), 'step')} at {url}?", yes=yes)
        again, new_state = _plan(target, organization, is_shown=False)
        if new_state != state:
            note(f"Warning: {url} has changed since the plan. Somebody else may be pushing.")
            _show(again)
            confirm("Take these steps instead?", yes=yes)
        with waiting(f"Changing {url}") as update:
            target.report = update
            take(again, target, target.report)
        say(f"Pushed in {count_of(len(again), 'step')}.")
        if organization.keys:
            note(f"Scoped keys that were made are in {memory.file}, which only you can read.")


def _plan(
    target: RemoteTarget, organization: DesiredOrganization, *, is_shown: bool = True
) -> tuple[list[SeedStep], dict[str, CurrentOrganization]]:
    from chowder_local.seeding.plan import plan

    with waiting(f"Reading {target.public_url}") as update:
        target.report = update
        state = target.current_state([organization])
    target.index.write()
    steps = plan([organization], state, target.removal, is_exact=target.may_delete)
    if is_shown:
        _show(steps)
    return steps, state


def _show(steps: list[SeedStep]) -> None:
    for step in steps:
        say(step.description)


def compare_remote(context: Context, desired: str, url: str, instance: str, output: Output) -> bool:
    """Prints how an agent of another server differs from a seed file or an agent here.

    Returns whether it does not.
    """
    from chowder_local.seeding.remote import (
        current_agent,
        desired_agent,
        differences,
        find_instance,
        scope,
    )

    declared = _declared(context, Path(desired), instance) if Path(desired).is_file() else None
    index = _index(open_memory(context, _root(url)))
    with _client(context, url) as client, waiting(f"Reading {instance}"):
        found = find_instance(client, instance)
        only = None if declared is None else scope(declared)
        there = current_agent(client, found, index, only)
        index.write()
    if declared is not None:
        here = desired_agent(declared)
    else:
        with context.client() as local, waiting(f"Reading {desired}"):
            own = _index(open_memory(context))
            here = current_agent(local, find_instance(local, desired), own)
            own.write()
    lines = list(differences(here, there))
    if output is Output.JSON:
        show_json(lines)
        return not lines
    for line in lines:
        say(line)
    if not lines:
        note(f"{instance} is as {desired} has it.")
    return not lines


def _declared(context: Context, file: Path, instance: str) -> DesiredInstance:
    declared = [
        each
        for organization in read_file(context, file).organizations
        for each in organization.instances
    ]
    named = [each for each in declared if each.name == instance] or declared
    if len(named) != 1:
        raise SettingsInvalid(f"{file} has several instances, and none is called {instance}.")
    return named[0]


def _client(context: Context, url: str) -> RemoteClient:
    from chowder_local.client.remote import RemoteClient

    return RemoteClient(url, _key(context), context.settings().ca_bundle)


def _key(context: Context) -> str:
    if key := context.env.get(KEY, "").strip():
        return key
    raise SettingsInvalid(f"Set {KEY} to a key of the other server. It is not stored.")


def _root(url: str) -> str:
    from chowder_local.client.remote import checked_url

    return checked_url(url).rstrip("/").removesuffix("/v1")


def _index(memory: Memory) -> FileIndex:
    from chowder_local.seeding.home import FileIndex

    return FileIndex(memory.file.with_name(f"{memory.file.name}.files"))


def _removal(url: str, _: str, instance_id: str) -> str:
    header = f'"Authorization: Bearer ${KEY}"'
    return f"curl -X DELETE {url}/instances/{instance_id} -H {header}"
