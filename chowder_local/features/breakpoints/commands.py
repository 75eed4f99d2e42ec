"""`hold`: model calls that are held, and let go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import SHORT_ID_LENGTH, Row, noun
from chowder_local.cli.output import at

if TYPE_CHECKING:
    from chowder_local.client import Client


def _hold(client: Client, instance: str, every: bool, **match: Any) -> dict[str, Any]:
    given = {name: each for name, each in match.items() if each is not None}
    return client.set_breakpoint(instance, given, once=not every)


def _resume(
    client: Client, call: str, request: Path | None, answer: str | None, reply: Path | None,
    error: int | None,
) -> dict[str, Any]:  # fmt: skip
    if [request, answer, reply, error].count(None) < 3:
        raise click.UsageError("Give one of --request, --answer, --reply and --error.")
    instead: Any = answer if error is None else {"error": error}
    if reply is not None:
        instead = _read_json(reply)
    return client.resume_call(call, None if request is None else _read_json(request), instead)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as invalid:
        raise click.UsageError(f"{file} is no JSON: {invalid}.") from None


of_file = click.Path(exists=True, dir_okay=False, path_type=Path)
# fmt: off
hold = noun("hold", """Hold model calls of an agent, look at them, and let them go on.

    A held call waits for up to 10 minutes, and is then refused. 'calls show INSTANCE CALL' prints
    its request.
    """, {
    "next": Row(_hold, "instance", "Hold the next model call of an agent that matches.",
        options=(
            click.option("--text", help="Text that the latest user message contains."),
            click.option("--tool", help="Tool whose result has come since that message."),
            click.option("--model", help="Id of the model; * and ? are wildcards."),
            click.option("--call-number", type=click.IntRange(min=1),
                help="The call's number in its turn, from 1."),
            click.option("--every", is_flag=True, help="Hold each call that matches."),
        ), line="The breakpoint is set.", note="List what it holds with: chowder-local hold ls"),
    "ls": Row("held_calls", "", "List the model calls that are held, the longest held first.",
        columns={"ID": "id", "INSTANCE": lambda call: call["instance_id"][:SHORT_ID_LENGTH],
            "PROVIDER": "provider", "HELD": at("held_at"), "UNTIL": at("until")},
        wide={"SESSION": "session_key"}, if_empty="No model call is held."),
    "resume": Row(_resume, "call",
        "Let a held call go on: as it is, with another request, or with an answer instead.",
        options=(
            click.option("--request", type=of_file, help="JSON file with the body to send."),
            click.option("--answer", help="Text to answer in the model's place."),
            click.option("--reply", type=of_file,
                help="JSON file with an action of a reply script to answer with."),
            click.option("--error", type=click.IntRange(400, 599),
                help="Status of an error to answer with."),
        ), line="{id} goes on."),
    "off": Row("remove_breakpoint", "instance",
        "Remove an agent's breakpoint. Calls that are held stay held.",
        done="The breakpoint is removed."),
})
# fmt: on
