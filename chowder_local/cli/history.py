"""`sessions` and `usage`: what was said to an agent, and what it has cost."""

from __future__ import annotations

import json
import re
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import Context, data_dir_option, json_option
from chowder_local.cli.groups import Group
from chowder_local.cli.output import note, say, show_json, show_table
from chowder_local.cli.resolve import SHOWN_ID_LENGTH, find_instance

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a terminal would obey rather than show; an agent may have written it.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@click.group(cls=Group)
@data_dir_option
def sessions() -> None:
    """List and read an agent's conversations, whether it runs or is stopped."""


@sessions.command("ls")
@data_dir_option
@json_option
@click.argument("instance")
@click.pass_obj
def ls(context: Context, as_json: bool, instance: str) -> None:
    """List the conversations of INSTANCE, the main one first, then the last used ones."""
    with context.client() as client:
        found = client.sessions(find_instance(client, instance)["id"])
    if as_json:
        show_json(found)
        return
    show_table(
        ("NAME", "MESSAGES", "CREATED", "LAST USED"),
        [
            (
                _shown(_title(each)),
                str(each["messages"]),
                _moment(each["created_at"]),
                _moment(each["last_used_at"]),
            )
            for each in found
        ],
    )


@sessions.command("show")
@data_dir_option
@json_option
@click.argument("instance")
@click.argument("name", required=False)
@click.option("--key", help="OpenClaw's key of a conversation that has no name, as 'ls' shows it.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="Last messages."
)
@click.option("--before", type=click.IntRange(0), help="Only messages before this position.")
@click.pass_obj
def show(
    context: Context,
    as_json: bool,
    instance: str,
    name: str | None,
    key: str | None,
    limit: int,
    before: int | None,
) -> None:
    """Print what was said in the conversation NAME of INSTANCE, or else in its main one."""
    if name is not None and key is not None:
        raise click.UsageError("A conversation is chosen by its name or by its key, not by both.")
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        found = client.transcript(instance_id, name, key=key, limit=limit, before=before)
    if as_json:
        show_json(found)
        return
    if found["before"] is not None:
        note(f"Older ones: --before {found['before']}")
    if not found["turns"]:
        note("Nothing was said in it.")
    for turn in found["turns"]:
        say(_shown(_head(turn)))
        if turn["text"]:
            say(indent(_shown(turn["text"]), "  "))


@click.command()
@data_dir_option
@json_option
@click.argument("instance", required=False)
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows."
)
@click.pass_obj
def usage(context: Context, as_json: bool, instance: str | None, limit: int) -> None:
    """Show what the model calls of INSTANCE, or of all instances, have cost at list price."""
    with context.client() as client:
        instance_id = None if instance is None else find_instance(client, instance)["id"]
        found = client.usage(instance_id, limit=limit)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            row["day"],
            row["instance_id"][:SHOWN_ID_LENGTH],
            _shown(_session(row)),
            _shown(row["model"] or "-"),
            *_figures(row),
        )
        for row in found["rows"]
    ]
    if found["has_more"]:
        rows.append(("…", "", "", "", "", "", "", "", ""))
    rows.append(("all", "", "", "", *_figures(found["totals"])))
    show_table(
        ("DAY", "INSTANCE", "SESSION", "MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST"), rows
    )
    note(f"List prices as of {found['prices']['as_of']}; '?' where they are not known.")


def _title(session: Mapping[str, Any]) -> str:
    if session["is_main"]:
        return "(main)"
    return str(session["key"] if session["name"] is None else session["name"])


def _session(row: Mapping[str, Any]) -> str:
    if row["session"] is not None:
        return str(row["session"])
    key = row["session_key"]
    return "(main)" if key == "agent:main:main" else str(key or "-")


def _head(turn: Mapping[str, Any]) -> str:
    words = f"{_moment(turn['at'], 19)}  "
    if turn["role"] == "tool_call":
        arguments = "…" if turn["is_cut"] else json.dumps(turn["arguments"], ensure_ascii=False)
        return f"{words}calls {turn['name']} {arguments}"
    if turn["role"] == "tool_result":
        verb = "fails" if turn["is_error"] else "answers"
        return f"{words}{turn['name'] or 'tool'} {verb}"
    words += turn["role"] if turn["model"] is None else f"{turn['role']} ({turn['model']})"
    if turn["images"]:
        words += f" [{turn['images']} images]"
    if turn.get("status") == "cancelled":
        words += " cancelled: its client hung up"
    return words if turn["error"] is None else f"{words} failed: {turn['error']}"


def _figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("calls", "input_tokens", "cached_tokens", "output_tokens")
    cost = row["cost_usd"]
    return (*(str(row[name]) for name in names), "?" if cost is None else f"${cost:.4f}")


def _moment(time: str | None, length: int = 16) -> str:
    return "-" if time is None else time[:length].replace("T", " ")


def _shown(words: str) -> str:
    return _CONTROLS.sub("\ufffd", words)
