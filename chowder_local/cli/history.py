"""`sessions` and `usage`: an agent's transcripts, and the cost of its model calls."""

from __future__ import annotations

import json
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import Command, Group, output_option
from chowder_local.cli.output import (
    Output,
    count_of,
    format_time,
    note,
    say,
    show_json,
    show_list,
    show_table,
    without_controls,
)
from chowder_local.cli.resolve import SHORT_ID_LENGTH, find_instance, find_instance_id
from chowder_local.openclaw.session_keys import MAIN_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.client import Client


@click.group(cls=Group)
def sessions() -> None:
    """List and read the sessions of an agent, running or stopped."""


@sessions.command("ls")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@pass_client
def ls(client: Client, output: Output, instance: str) -> None:
    """List the sessions of INSTANCE: the main one first, then the last used ones."""
    rows = client.sessions(find_instance(client, instance)["id"])
    headings = ("NAME", "MESSAGES", "CREATED", "LAST USED")
    wide = {"KEY": "key", "CHANNEL": "channel"}
    show_list(rows, headings, _session_row, output=output, wide=wide)


@sessions.command("show")
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("name", required=False)
@click.option("-s", "--session", help="Name of the session, in place of NAME, as in `chat`.")
@click.option("--key", help="OpenClaw's key of a session without a name, as 'ls' shows it.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="Last messages."
)
@click.option("--before", type=click.IntRange(0), help="Only messages before this position.")
@click.pass_obj
def show(
    context: Context,
    output: Output,
    instance: str,
    name: str | None,
    session: str | None,
    key: str | None,
    limit: int,
    before: int | None,
) -> None:
    """Print the transcript of the session NAME of INSTANCE; by default, the main session."""
    if sum(each is not None for each in (name, session, key)) > 1:
        raise click.UsageError("Give NAME, --session or --key, and only one of them.")
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        transcript = client.transcript(
            instance_id, name if session is None else session, key=key, limit=limit, before=before
        )
    if output is Output.JSON:
        show_json(transcript)
        return
    if transcript["before"] is not None:
        note(f"Older messages: --before {transcript['before']}")
    if not transcript["turns"]:
        note("The session has no messages.")
    for turn in transcript["turns"]:
        say(without_controls(_heading(turn)))
        if turn["text"]:
            say(indent(without_controls(turn["text"]), "  "))


@click.command(cls=Command)
@output_option
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows."
)
@pass_client
def usage(client: Client, output: Output, instance: str | None, limit: int) -> None:
    """Show what model calls cost: those of INSTANCE, or of all instances."""
    report = client.usage(find_instance_id(client, instance), limit=limit)
    if output is Output.JSON:
        show_json(report)
        return
    rows = [
        (
            row["day"],
            row["instance_id"][:SHORT_ID_LENGTH],
            session_title(row),
            row["model"] or "-",
            *_figures(row),
        )
        for row in report["rows"]
    ]
    if report["has_more"]:
        rows.append(("…", "", "", "", "", "", "", "", ""))
    rows.append(("all", "", "", "", *_figures(report["totals"])))
    show_table(
        ("DAY", "INSTANCE", "SESSION", "MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST"), rows
    )
    as_of = report["prices"]["as_of"]
    note(f"List prices as of {as_of}. '?' means that a price is not known: set CHOWDER_PRICES.")


def _session_row(session: Mapping[str, Any]) -> tuple[str, ...]:
    name = session["key"] if session["name"] is None else session["name"]
    return (
        "(main)" if session["is_main"] else str(name),
        str(session["messages"]),
        format_time(session["created_at"]),
        format_time(session["last_used_at"]),
    )


def session_title(row: Mapping[str, Any]) -> str:
    """The name of the session of a usage row or a model call, for a table."""
    if row["session"] is not None:
        return str(row["session"])
    key = row["session_key"]
    return "(main)" if key == MAIN_KEY else str(key or "-")


def _heading(turn: Mapping[str, Any]) -> str:
    heading = f"{format_time(turn['at'], 19)}  "
    if turn["role"] == "tool_call":
        arguments = "…" if turn["is_cut"] else json.dumps(turn["arguments"], ensure_ascii=False)
        return f"{heading}calls {turn['name']} {arguments}"
    if turn["role"] == "tool_result":
        verb = "fails" if turn["is_error"] else "answers"
        return f"{heading}{turn['name'] or 'tool'} {verb}"
    heading += turn["role"] if turn["model"] is None else f"{turn['role']} ({turn['model']})"
    if turn["images"]:
        heading += f" [{count_of(turn['images'], 'image')}]"
    if turn.get("status") == "cancelled":
        heading += " cancelled: its client disconnected"
    return heading if turn["error"] is None else f"{heading} failed: {turn['error']}"


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("calls", "input_tokens", "cached_tokens", "output_tokens")
    cost = row["cost_usd"]
    return (*(str(row[name]) for name in names), "?" if cost is None else f"${cost:.4f}")
