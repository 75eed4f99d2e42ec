"""`faults`: injects errors, delays and broken streams into calls, for tests of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import Group, output_option
from chowder_local.cli.output import Output, count_of, show_list, show_result
from chowder_local.cli.resolve import SHORT_ID_LENGTH, find_fault, find_instance_id, short_id
from chowder_local.core.fault_injection import FaultKind

if TYPE_CHECKING:
    from chowder_local.client import Client


@click.group(cls=Group)
def faults() -> None:
    """Make the next calls of a kind fail, wait, or break off.

    Faults affect calls with any key of the organization, scoped keys included. Each call uses one
    fault, the one that was set first. Faults are gone once they are used up, and when the server
    stops.
    """


@faults.command("add")
@output_option
@click.argument("kind", type=click.Choice([str(kind) for kind in FaultKind]))
@click.option("-n", "--times", type=int, default=1, show_default=True, help="Number of calls.")
@click.option(
    "-i", "--instance", help="Only calls for this agent: name, id, or beginning of an id."
)
@click.option("--status", type=int, help="Status of the answer, from 400 to 599.")
@click.option("--detail", help="Text of the error.")
@click.option(
    "--retry-after", "retry_after_s", type=int, help="Value of the Retry-After header, in seconds."
)
@click.option("--delay", "delay_s", type=float, default=0.0, help="Seconds to wait first.")
@click.option(
    "--after-events", type=int, help="Of a stream: number of events before it breaks off."
)
@click.option("--method", help="Of a call: GET, POST and so on; by default, any.")
@click.option("--path", help="Of a call: a path as in /openapi.json; * stands for any part.")
@pass_client
def add(client: Client, /, output: Output, kind: str, instance: str | None, **options: Any) -> None:
    """Set a fault of KIND and print its id.

    \b
    provisioning  a new agent gets into error; --detail is its message
    create        creating an agent fails: 402, as if the tier were full
    start, stop   the call fails: 502
    message       a message fails: 502; 429, 409 and so on with --status
    stream        a streamed answer breaks off after the first event
    call          any call, chosen by --path and --method: 500

    With --delay alone, the call is slow and succeeds.
    """
    fault = client.add_fault(kind, instance_id=find_instance_id(client, instance), **options)
    show_result(fault, fault["id"], output=output)


@faults.command("ls")
@output_option
@pass_client
def ls(client: Client, output: Output) -> None:
    """List the faults that are not used up, in the order in which they were set."""
    show_list(
        client.faults(),
        ("ID", "KIND", "LEFT", "EFFECT"),
        _row,
        output=output,
        wide={"WHOLE ID": "id", "INSTANCE": "instance_id", "CREATED": "created_at"},
        if_empty="There are no faults. Set one with: chowder-local faults add KIND",
    )


@faults.command("rm")
@click.argument("fault", required=False)
@click.option("--all", "is_all", is_flag=True, help="Remove all faults.")
@click.pass_obj
def rm(context: Context, fault: str | None, is_all: bool) -> None:
    """Remove FAULT (its id, or the beginning of its id), or with --all every fault."""
    if (fault is None) is not is_all:
        raise click.UsageError("Name a fault, or give --all.")
    with context.client() as client:
        client.clear_faults(None if fault is None else find_fault(client, fault)["id"])


def _row(fault: dict[str, Any]) -> tuple[str, ...]:
    return short_id(fault), fault["kind"], str(fault["left"]), _describe(fault)


def _describe(fault: dict[str, Any]) -> str:
    """The effects of a fault, in the order in which they happen."""
    method, path, instance_id = fault["method"] or "", fault["path"], fault["instance_id"]
    effects = [f"{method} {path}".strip()] if path else []
    if instance_id is not None:
        effects.append(f"for {instance_id[:SHORT_ID_LENGTH]}")
    if fault["delay_s"]:
        effects.append(f"waits {fault['delay_s']:g} s")
    if fault["status"] is not None:
        effects.append(f"answers {fault['status']}")
    if fault["after_events"] is not None:
        effects.append(f"breaks off after {count_of(fault['after_events'], 'event')}")
    if fault["detail"] is not None:
        effects.append(f'"{fault["detail"]}"')
    return ", ".join(effects)
