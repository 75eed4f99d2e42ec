"""`trace`: what an agent did for an answer, step by step."""

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
    """Show what an agent did for an answer: its model calls, and the tools that it ran.

    RESPONSE is the id of an answer, or its beginning; by default, the latest one.
    """
    agent = find_instance(client, instance)
    turns = client.traces(agent["id"], limit if is_list else 1000)
    if is_list:
        headings = ("RESPONSE", "AT", "SESSION", "STATUS", "TOOK", "MODEL CALLS")
        wide = {"SESSION KEY": "session_key"}
        show_list(turns, headings, _turn_row, output=output, wide=wide)
        return
    answered = [each["response_id"] for each in turns if each["response_id"]]
    found = [each for each in answered if response is None or each.startswith(response)]
    if not found:
        what = f"no answer {response}" if response else "no answer"
        raise click.ClickException(
            f"{agent['name']} has {what} in memory. See: trace {instance} --list"
        )
    view = client.trace(agent["id"], found[0])
    if output is Output.JSON:
        show_json(view)
        return
    session = "the main session" if view["session"] is None else f"session {view['session']}"
    say(f"{view['response_id']}, {session}, {format_time(view['at'], 19)}")
    say(f"{view['status']} after {view['took_s']:.2f} s")
    if len([each for each in view["steps"] if each["kind"] == "model_call"]) < view["model_calls"]:
        note("Some of its model calls are not in memory any more.")
    is_wide = output is Output.WIDE
    rows = [_step_row(each, is_wide=is_wide) for each in view["steps"]]
    show_table(("AFTER", "TOOK", "STEP", "NAME", "TOKENS", "DETAILS"), rows, is_cut=not is_wide)


def _turn_row(turn: dict[str, Any]) -> tuple[str, ...]:
    return (
        turn["response_id"] or "-",
        format_time(turn["at"], 19),
        turn["session"] or "(main)",
        turn["status"],
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
