"""`trace`: what an agent did in a turn, step by step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import (
    Output,
    format_time,
    note,
    say,
    show_json,
    show_list,
    show_table,
)
from chowder_local.cli.resolve import find_instance

if TYPE_CHECKING:
    from chowder_local.client import Client

FAILED = "failed"
MAX_FAILED = 5
MAX_ARGUMENTS = 60
"""Characters of a tool's arguments in a table that is not wide."""


@click.command(cls=Command)
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("response", required=False)
@click.option("--list", "is_list", is_flag=True, help="List the latest turns instead.")
@click.option("-n", "--limit", default=20, show_default=True, help="Number of turns to list.")
@pass_client
def trace(
    client: Client, output: Output, instance: str, response: str | None, is_list: bool, limit: int
) -> None:
    """Show what an agent did in a turn: its model calls, and the tools that it ran.

    RESPONSE is the id of an answer or, as failed turns have none, of a turn or its request; the
    beginning is enough. By default the latest turn is shown, whether it failed or not, after a line
    for each of the last ones that failed.
    """
    agent = find_instance(client, instance)
    turns = client.traces(agent["id"], limit if is_list else 1000)
    # What failed is first, then the latest.
    failed = [each for each in turns if each["status"] == FAILED]
    if is_list:
        turns = [*failed, *(each for each in turns if each["status"] != FAILED)]
        headings = ("RESPONSE", "AT", "SESSION", "STATUS", "TOOK", "MODEL CALLS")
        wide = {"SESSION KEY": "session_key"}
        show_list(turns, headings, _turn_row, output=output, wide=wide)
        return
    found = [
        each
        for each in turns
        if response is None or _id(each).startswith(response) or each["id"].startswith(response)
    ]
    if not found:
        what = f"no turn {response}" if response else "no turn"
        raise click.ClickException(
            f"{agent['name']} has {what} in memory. See: trace {instance} --list"
        )
    if response is None:
        for each in failed[:MAX_FAILED]:
            if each is not found[0]:
                why = f": {each['error']}" if each["error"] else ""
                note(f"{_id(each)} failed at {format_time(each['at'], 19)}{why}")
    view = client.trace(agent["id"], found[0]["id"])
    if output is Output.JSON:
        show_json(view)
        return
    session = "the main session" if view["session"] is None else f"session {view['session']}"
    say(f"{_id(view)}, {session}, {format_time(view['at'], 19)}")
    error = f": {view['error']}" if view["error"] else ""
    say(f"{view['status'].replace('_', ' ')} after {view['took_s']:.2f} s{error}")
    if len([each for each in view["steps"] if each["kind"] == "model_call"]) < view["model_calls"]:
        note("Some of its model calls are not in memory any more.")
    is_wide = output is Output.WIDE
    rows = [_step_row(each, is_wide=is_wide) for each in view["steps"]]
    show_table(("AFTER", "TOOK", "STEP", "NAME", "TOKENS", "DETAILS"), rows, is_cut=not is_wide)


def _id(turn: dict[str, Any]) -> str:
    """The id of the answer, or that of a turn without one."""
    return str(turn["response_id"] or turn["id"])


def _turn_row(turn: dict[str, Any]) -> tuple[str, ...]:
    return (
        _id(turn),
        format_time(turn["at"], 19),
        turn["session"] or "(main)",
        turn["status"].replace("_", " "),
        f"{turn['took_s']:.2f} s",
        str(turn["model_calls"]),
    )


def _step_row(step: dict[str, Any], *, is_wide: bool) -> tuple[str, ...]:
    is_tool = step["kind"] == "tool"
    tokens = "-"
    if step["input_tokens"] is not None:
        tokens = f"{step['input_tokens']} + {step['output_tokens']}"
    details = f"{step['exchange_id']}: {step['error'] or step['outcome'] or 'in progress'}"
    if is_tool:
        details = json.dumps(step["arguments"], ensure_ascii=False)
    return (
        f"{step['after_s']:.2f} s",
        "…" if step["took_s"] is None else f"{step['took_s']:.2f} s",
        "tool" if is_tool else "model",
        step["name"],
        tokens,
        details if is_wide or len(details) <= MAX_ARGUMENTS else f"{details[:MAX_ARGUMENTS]}…",
    )
