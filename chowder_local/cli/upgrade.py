"""`instances upgrade`: moves an agent to another OpenClaw release, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.instance_status import show_created
from chowder_local.cli.options import Command, confirm, output_option, wait_option, yes_option
from chowder_local.cli.output import Output, format_time, note, show_result, waiting
from chowder_local.cli.resolve import find_instance
from chowder_local.core.domain import UPGRADE_SNAPSHOT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.client import Client


@click.command("upgrade", cls=Command)
@output_option
@click.argument("instance", shell_complete=complete_instance)
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
        show_result(report, "\n".join(_findings(report)), output=output)
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
        raise click.ClickException(f"{agent['name']} has no snapshot of an upgrade.")
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
