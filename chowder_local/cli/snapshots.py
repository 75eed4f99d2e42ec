"""`snapshots`, and `instances upgrade`, which takes one to go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import (
    Row,
    describe_snapshot,
    find_instance,
    find_instance_id,
    instance_argument,
    noun,
    short_id,
    show_created,
)
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import (
    Command,
    complete_instance,
    confirm,
    jobs_option,
    output_option,
    wait_option,
    yes_option,
)
from chowder_local.cli.output import (
    Output,
    at,
    format_time,
    note,
    show_list,
    show_result,
    waiting,
)
from chowder_local.core.domain import UPGRADE_SNAPSHOT_PREFIX
from chowder_local.core.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.client import Client


def _asks_to_remove(given: dict[str, Any]) -> str:
    old = given["snapshot"]
    name = f"{old['name']} " if old["name"] else ""
    return f"Remove the snapshot {name}({describe_snapshot(old)})?"


def _asks_to_restore(given: dict[str, Any]) -> str:
    agent, source = given["instance"], given["snapshot"]
    return (
        f"Restore {agent['name']} ({agent['id']}) to the snapshot of "
        f"{format_time(source['created_at'])}? All changes since then are lost."
    )


# fmt: off
snapshots = noun("snapshots", """List, take, restore and remove snapshots of agents.

    SNAPSHOT is a snapshot's name, its id, or the beginning of its id; INSTANCE likewise. If
    snapshots of several agents have one name, `restore` uses the agent's own.
    """, {
    "rm": Row("delete_snapshot", "snapshot",
        "Remove a snapshot, after asking; agents that were made of it stay.", asks=_asks_to_remove,
        done=lambda given: (f"{given['snapshot']['name'] or given['snapshot']['id']} is removed.")),
    "restore": Row("restore", "instance snapshot",
        "Restore an agent to a snapshot, after asking; all changes since then are lost.",
        asks=_asks_to_restore, is_created=True),
    "fork": Row("fork_snapshot", "snapshot name", "Create an agent from a snapshot.",
        options=(jobs_option,), is_created=True),
})
# fmt: on


@snapshots.command("ls")
@output_option
@click.argument("instance", required=False, shell_complete=complete_instance)
@pass_client
def ls(client: Client, output: Output, instance: str | None) -> None:
    """List all snapshots, or those of INSTANCE."""
    rows, names = client.snapshots(find_instance_id(client, instance)), {}
    if output is not Output.JSON:
        names = {each["id"]: each["name"] for each in client.instances()}
    show_list(
        rows,
        {
            "ID": short_id,
            "NAME": lambda snapshot: snapshot["name"] or "",
            "OF": lambda snapshot: names.get(snapshot["instance_id"], "(gone)"),
            "MB": lambda snapshot: f"{snapshot['size_bytes'] / 1e6:.1f}",
            "TAKEN": at("created_at"),
        },
        output=output,
        wide={"WHOLE ID": "id", "INSTANCE": "instance_id"},
        if_empty="There are no snapshots. Take one with: chowder-local snapshots create INSTANCE",
    )


@snapshots.command("create")
@output_option
@instance_argument
@click.argument("name", required=False)
@pass_client
def create(client: Client, output: Output, instance: str, name: str | None) -> None:
    """Take a snapshot of an agent: its conversations, files and configuration.

    No other snapshot of the agent may have the same NAME.
    """
    agent = find_instance(client, instance)
    for each in client.snapshots(agent["id"]) if name else ():
        if each["name"] == name:
            raise click.ClickException(
                f"{visible_line(agent['name'])} has a snapshot {name!r} already "
                f"({describe_snapshot(each)}). Choose another name, or remove that one first."
            )
    with waiting(f"Copying {agent['name']}"):
        snapshot = client.take_snapshot(agent["id"], name)
    show_result(snapshot, snapshot["id"], output=output)


@click.command("upgrade", cls=Command)
@output_option
@instance_argument
@click.option("--to", "version", metavar="VERSION", help="The newer OpenClaw release.")
@click.option("--dry-run", is_flag=True, help="Only show what the release's own checks find.")
@click.option("--rollback", is_flag=True, help="Restore the snapshot of the last upgrade.")
@yes_option
@wait_option
@pass_client
def upgrade(
    client: Client,
    output: Output,
    instance: str,
    version: str | None,
    dry_run: bool,
    rollback: bool,
    yes: bool,
    wait: bool,
) -> None:
    """Move a running instance to a newer OpenClaw release, after a snapshot of it.

    --rollback goes back to that snapshot, and to its release. The image of a release is built by
    `image build --openclaw`; "v1" is the server's own.
    """
    if (version is None) is not rollback or (dry_run and rollback):
        raise click.UsageError(
            "Give either --to VERSION, with or without --dry-run, or --rollback."
        )
    agent = find_instance(client, instance)
    if version is None:
        _roll_back(client, agent, output=output, yes=yes, wait=wait)
    else:
        _upgrade(client, agent, version, output=output, dry_run=dry_run, wait=wait)


def _upgrade(
    client: Client,
    agent: dict[str, Any],
    version: str,
    *,
    output: Output,
    dry_run: bool,
    wait: bool,
) -> None:
    doing = f"Checking a copy of {agent['name']}" if dry_run else f"Copying {agent['name']}"
    with waiting(doing):
        report = client.upgrade(agent["id"], version, dry_run=dry_run)
    if dry_run:
        show_result(report, *_findings(report), output=output)
        return
    note(
        f"{agent['name']} goes from OpenClaw {report['from_version']} to {report['to_version']}. "
        f"To go back: chowder-local instances upgrade {agent['name']} --rollback"
    )
    show_created(client, client.instance(agent["id"]), output=output, wait=wait)


def _roll_back(
    client: Client, agent: dict[str, Any], *, output: Output, yes: bool, wait: bool
) -> None:
    taken = [
        each
        for each in client.snapshots(agent["id"])
        if (each["name"] or "").startswith(UPGRADE_SNAPSHOT_PREFIX)
    ]
    if not taken:
        raise click.ClickException(f"{visible_line(agent['name'])} has no snapshot of an upgrade.")
    source = taken[-1]
    confirm(
        f"Restore {agent['name']} ({agent['id']}) to its state before the upgrade of "
        f"{format_time(source['created_at'])}? All changes since then are lost.",
        yes=yes,
    )
    restored = client.restore(agent["id"], source["id"])
    show_created(client, restored, output=output, wait=wait)


def _findings(report: dict[str, Any]) -> Iterator[str]:
    verdict = "can" if report["can_upgrade"] else "cannot"
    yield f"It {verdict} go from OpenClaw {report['from_version']} to {report['to_version']}."
    for is_expected in (False, True):
        found = [each for each in report["findings"] if each["is_expected"] is is_expected]
        if is_expected and found:
            yield "Expected, as every upgrade has it or the present release finds it as well:"
        if not is_expected and not found:
            yield "The checks find nothing unexpected."
        for each in found:
            yield f"{each['severity']:8} {each['check']}: {each['message']}"
