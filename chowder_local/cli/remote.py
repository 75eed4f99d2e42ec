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
    ask,
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
    from chowder_local.seeding.push import PushPlan
    from chowder_local.seeding.remote import RemoteTarget
    from chowder_local.seeding.seen import Seen
    from chowder_local.seeding.target import CurrentOrganization, Memory

KEY = "CHOWDER_REMOTE_KEY"
MAX_SHOWN = 20
"""How many files a question or a note names."""
OURS, THEIRS, NEITHER = "ours", "theirs", "neither"
ours_option = click.option(
    "--ours", "side", flag_value=OURS, help="Of what was changed on both sides, take what is here."
)
theirs_option = click.option(
    "--theirs", "side", flag_value=THEIRS, help="Of that, take what is there."
)


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
@ours_option
@theirs_option
@yes_option
@click.pass_obj
def pull(
    context: Context,
    url: str,
    instance: str,
    name: str | None,
    folder: Path | None,
    taken: tuple[str, ...],
    side: str | None,
    yes: bool,
) -> None:
    """Copy the agent INSTANCE of another server, such as https://api.example/v1, to this one.

    The key is read from CHOWDER_REMOTE_KEY; a scoped one with `read` and `files` is enough.
    Configuration and files come into a folder with a seed file, which can be committed, and make an
    agent here. A second run copies what has changed there; what was changed only here stays, and it
    asks about what was changed on both sides. Files that git, an editor or a shell may obey are
    left out. At the end, it says what is not copied.
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
            conflicts = copy.plan()
        _show_some("Stays, changed only here", copy.kept)
        _show_some("Changed here and there", conflicts)
        side = _side_of(conflicts, side, yes=yes)
        with waiting(f"Copying {name}") as update:
            copy.report = update
            copy.take(keeps_ours=side == OURS)
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
@click.option(
    "--memory", is_flag=True, help="Write MEMORY.md, DREAMS.md and the notes in memory/, too."
)
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@ours_option
@theirs_option
@yes_option
@click.pass_obj
def push(
    context: Context,
    file: Path,
    url: str,
    instance: str | None,
    delete: bool,
    memory: bool,
    dry_run: bool,
    side: str | None,
    yes: bool,
) -> None:
    """Bring agents of another server to what the seed file FILE declares, after showing the plan.

    The key is read from CHOWDER_REMOTE_KEY. Configuration, files, skills and scoped keys are
    created or changed; nothing is stopped, and nothing removed without --delete. What was changed
    only there since the last pull or push stays, and the command asks about what was changed on
    both sides. With INSTANCE, the only agent of the file goes to the one of that name. A file
    cannot be removed: the API has no call for it.
    """
    from chowder_local.seeding.remote import RemoteTarget, published_part
    from chowder_local.seeding.run import take
    from chowder_local.seeding.seen import Seen

    organization, left = published_part(read_file(context, file), file, instance)
    host, key, stored = _root(url), _key(context), open_memory(context, _root(url))
    removal, seen = partial(_removal, url), Seen.beside(file)
    with RemoteTarget(
        host, key, stored, note, public_url=url, removal=removal, index=_index(stored)
    ) as target:
        target.may_delete, target.ca_bundle = delete, context.settings().ca_bundle
        plan, state = _plan(target, organization, seen, with_memory=memory)
        for each in left:
            note(f"Not pushed: {each}. The published API has no call for it, or it is for tests.")
        _show_some("Not pushed", list(target.not_carried(organization)))
        _show(plan)
        has_more = _show_staying(list(target.only_there(organization))) or plan.stays or plan.memory
        if not plan.steps:
            is_same = f"{url} is as declared: nothing is to be changed."
            say("Nothing else is to be changed." if has_more else is_same)
        if dry_run:
            return
        steps = plan.steps and _chosen(plan, side, yes=yes)
        if steps:
            confirm(f"Take {count_of(len(steps), 'step')} at {url}?", yes=yes)
            again, new_state = _plan(target, organization, seen, with_memory=memory)
            if new_state != state:
                note(f"Warning: {url} has changed since the plan. Somebody else may be pushing.")
                _show(again)
                steps = _chosen(again, side, yes=yes)
                confirm("Take these steps instead?", yes=yes)
            state = new_state
        try:
            if steps:
                with waiting(f"Changing {url}") as update:
                    target.report = update
                    take(steps, target, target.report)
                say(f"Pushed in {count_of(len(steps), 'step')}.")
        finally:
            target.note_pushed(organization, state, seen, steps)
        if organization.keys:
            note(f"Scoped keys that were made are in {stored.file}, which only you can read.")


def _plan(
    target: RemoteTarget, organization: DesiredOrganization, seen: Seen, *, with_memory: bool
) -> tuple[PushPlan, CurrentOrganization]:
    from chowder_local.seeding.plan import plan
    from chowder_local.seeding.push import plan_push

    with waiting(f"Reading {target.public_url}") as update:
        target.report = update
        state = target.current_state([organization])
    target.index.write()
    steps = plan([organization], state, target.removal, is_exact=target.may_delete)
    current, base_url = state[organization.name], target.client(organization.name).base_url
    known = {name: seen.agent(base_url, each.id) for name, each in current.instances.items()}
    return plan_push(steps, organization, current, known, with_memory=with_memory), current


def _show(plan: PushPlan) -> None:
    _show_some("Stays", plan.stays)
    _show_some("Not pushed without --memory", plan.memory)
    for step in plan.chosen(keeps_ours=False):
        say(step.description)
    for step in plan.conflicts:
        say(f"conflict: {step.description}")


def _show_staying(files: list[str]) -> bool:
    _show_some("Stays", files)
    if files:
        note(
            "The API has no call that removes a file. What the seed file does not have stays "
            f"({count_of(len(files), 'file')}), also with --delete: have the agent remove it."
        )
    return bool(files)


def _show_some(what: str, names: list[str]) -> None:
    for each in names[:MAX_SHOWN]:
        note(f"{what}: {each}")
    if len(names) > MAX_SHOWN:
        note(f"{what}: {len(names) - MAX_SHOWN:,} more")


def _chosen(plan: PushPlan, side: str | None, *, yes: bool) -> list[SeedStep]:
    """The steps that are taken, once somebody has decided on the conflicts."""
    decided = _side_of([each.description for each in plan.conflicts], side, yes=yes)
    return plan.chosen(keeps_ours=decided == OURS)


def _side_of(conflicts: list[str], side: str | None, *, yes: bool) -> str:
    """Which side's conflicts count: the one that an option names, or else the answer.

    Raises SettingsInvalid if nobody may be asked, and click.Abort if it is neither.
    """
    if side is not None or not conflicts:
        return side or THEIRS
    if yes:
        raise SettingsInvalid(
            f"{count_of(len(conflicts), 'conflict')}: {conflicts[0]}. Nothing was changed. Add "
            "--ours to take what is here, or --theirs to take what is there."
        )
    sides = click.Choice([OURS, THEIRS, NEITHER])
    answer = ask("Take ours, theirs, or neither and stop?", type=sides)
    if answer == NEITHER:
        raise click.Abort
    return answer


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
    from chowder_local.seeding.seen import Seen

    file, seen = Path(desired), None
    declared = _declared(context, file, instance) if file.is_file() else None
    index = _index(open_memory(context, _root(url)))
    with _client(context, url) as client, waiting(f"Reading {instance}"):
        found = find_instance(client, instance)
        if declared is None:
            there = current_agent(client, found, index)
        else:
            seen = Seen.beside(file).agent(client.base_url, found["id"])
            taken = [*seen.files, *declared.home_files()]
            there = current_agent(client, found, index, scope(declared), taken)
        index.write()
    if declared is not None:
        here = desired_agent(declared)
    else:
        with context.client() as local, waiting(f"Reading {desired}"):
            own = _index(open_memory(context))
            here = current_agent(local, find_instance(local, desired), own)
            own.write()
    lines = list(differences(here, there, seen))
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
