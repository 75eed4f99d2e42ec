"""`faults`, `replies`: errors of calls, and answers of the offline model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import (
    SHORT_ID_LENGTH,
    Row,
    find_fault,
    find_instance_id,
    noun,
    short_id,
)
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import output_option
from chowder_local.cli.output import Output, count_of, note, show_json, show_table
from chowder_local.core.fault_injection import ChannelEffect, FaultKind

if TYPE_CHECKING:
    from chowder_local.client import Client


def _describe_fault(fault: dict[str, Any]) -> str:
    """The effects of a fault, in the order in which they happen."""
    method, path, instance_id = fault["method"] or "", fault["path"], fault["instance_id"]
    effects = [f"{method} {path}".strip()] if path else []
    if instance_id is not None:
        effects.append(f"for {instance_id[:SHORT_ID_LENGTH]}")
    effects += [fault[each] for each in ("channel", "effect") if fault[each] is not None]
    if fault["delay_s"]:
        effects.append(f"waits {fault['delay_s']:g} s")
    if fault["status"] is not None:
        effects.append(f"answers {fault['status']}")
    if fault["after_events"] is not None:
        effects.append(f"breaks off after {count_of(fault['after_events'], 'event')}")
    if fault["detail"] is not None:
        effects.append(f'"{fault["detail"]}"')
    return ", ".join(effects)


# fmt: off
faults = noun("faults", """Make the next calls of a kind fail, wait, or break off.

    Faults affect calls with any key of the organization, scoped keys included. Each call uses one
    fault, the one that was set first. Faults are gone once they are used up, and when the server
    stops.
    """, {
    "add": Row("add_fault", "",
        """Set a fault of KIND and print its id.

        \b
        provisioning  a new agent gets into error; --detail is its message
        create        creating an agent fails: 402, as if the tier were full
        start, stop   the call fails: 502
        message       a message fails: 502; 429, 409 and so on with --status
        stream        a streamed answer breaks off after the first event
        call          any call, chosen by --path and --method: 500
        channel       an agent's message in a channel that is connected offline
                      is refused: 429; cut, twice and so on with --effect

        With --delay alone, the call is slow and succeeds.
        """,
        options=(
            click.argument("kind", type=click.Choice([str(kind) for kind in FaultKind])),
            click.option("-n", "--times", type=int, default=1, show_default=True,
                help="Number of calls."),
            click.option("-i", "--instance",
                help="Only calls for this agent: name, id, or beginning of an id."),
            click.option("--status", type=int, help="Status of the answer, from 400 to 599."),
            click.option("--detail", help="Text of the error."),
            click.option("--retry-after", "retry_after_s", type=int,
                help="Value of the Retry-After header, in seconds."),
            click.option("--delay", "delay_s", type=float, default=0.0,
                help="Seconds to wait first."),
            click.option("--after-events", type=int,
                help="Of a stream: number of events before it breaks off."),
            click.option("--method", help="Of a call: GET, POST and so on; by default, any."),
            click.option("--path",
                help="Of a call: a path as in /openapi.json; * stands for any part."),
            click.option("--channel", help="Of a channel: only this one, such as telegram."),
            click.option("--effect", type=click.Choice([str(each) for each in ChannelEffect]),
                help="Of a channel: what happens to the agent's next message (refused, cut), or "
                "to a person's (twice, out_of_order, late, disconnect)."),
        ), line="{id}"),
    "ls": Row("faults", "",
        "List the faults that are not used up, in the order in which they were set.",
        columns={"ID": short_id, "KIND": "kind", "LEFT": "left", "EFFECT": _describe_fault},
        wide={"WHOLE ID": "id", "INSTANCE": "instance_id", "CREATED": "created_at"},
        if_empty="There are no faults. Set one with: chowder-local faults add KIND"),
})
# fmt: on


@faults.command("rm")
@click.argument("fault", required=False)
@click.option("--all", "is_all", is_flag=True, help="Remove all faults.")
@click.pass_obj
def remove_faults(context: Context, fault: str | None, is_all: bool) -> None:
    """Remove FAULT (its id, or the beginning of its id), or with --all every fault."""
    if (fault is None) is not is_all:
        raise click.UsageError("Name a fault, or give --all.")
    with context.client() as client:
        client.clear_faults(None if fault is None else find_fault(client, fault)["id"])


instance_option = click.option(
    "-i", "--instance", help="For one agent only: name, id, or beginning of an id."
)
# fmt: off
replies = noun("replies", """Script what the offline model says.

    A script is a YAML or JSON file of rules: which messages a rule matches, and its reply. It is in
    force for the organization, or for one agent with --instance, until it is cleared or the server
    stops.
    """, {
    "clear": Row("clear_replies", "", "Remove the script.", options=(instance_option,),
        done="The script is removed."),
})
# fmt: on


@replies.command("set")
@instance_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def set_replies(context: Context, instance: str | None, file: Path) -> None:
    """Put the script in FILE in force; no rule counts as used."""
    from chowder_local.relay.scripts.files import read_file

    script = read_file(file).model_dump(mode="json", exclude_unset=True)
    with context.client() as client:
        scripts = client.set_replies(script, find_instance_id(client, instance))
    note(f"In force: {count_of(len(scripts['own']['used']), 'rule')}.")


@replies.command("show")
@instance_option
@output_option
@pass_client
def show_replies(client: Client, instance: str | None, output: Output) -> None:
    """Show the script, how often each rule was used, and the messages that no rule matched."""
    scripts = client.replies(find_instance_id(client, instance))
    if output is Output.JSON:
        show_json(scripts)
        return
    for owner, state in (("own", scripts["own"]), ("the server's", scripts["server"])):
        if state is not None:
            _show_script(owner, state)
    if scripts["own"] is None and scripts["server"] is None:
        note("There is no script. Give one with: chowder-local replies set FILE")


def _show_script(owner: str, state: dict[str, Any]) -> None:
    rules = zip(state["script"].get("replies", []), state["used"], strict=True)
    show_table(
        ("SCRIPT", "RULE", "USED", "MATCH"),
        [
            (
                owner,
                rule.get("name", f"replies[{number}]"),
                str(used),
                _describe_match(rule.get("match", {})),
            )
            for number, (rule, used) in enumerate(rules)
        ],
    )
    for call in state["unmatched"]:
        note(f"No rule matched: turn {call['turn']}, {call['text']!r}, model {call['model']}")


def _describe_match(match: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in match.items()) or "anything"
