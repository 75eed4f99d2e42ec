"""`replies` and `exchanges`: what the models of your agents say, and what they were asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.history import session_title
from chowder_local.cli.options import Command, Group, json_option
from chowder_local.cli.output import note, say, show_json, show_list, show_table
from chowder_local.cli.resolve import find_instance, find_instance_id

if TYPE_CHECKING:
    from chowder_local.client import Client

instance_option = click.option(
    "-i", "--instance", help="One agent's alone: name, id, or beginning of an id."
)


@click.group(cls=Group)
def replies() -> None:
    """Script what the offline model says.

    A script is a YAML or JSON file with rules: what is asked, and what is replied. It counts for
    the organization, or for one agent with --instance, until it is cleared or the server ends.
    """


@replies.command("set")
@instance_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def set_(context: Context, instance: str | None, file: Path) -> None:
    """Put the script in FILE in force, from its beginning."""
    from chowder_local.relay.scripts.parser import read_file

    script = read_file(file).model_dump(mode="json", exclude_unset=True)
    with context.client() as client:
        shown = client.set_replies(script, find_instance_id(client, instance))
    note(f"In force: {len(shown['own']['used'])} rules.")


@replies.command("show")
@instance_option
@json_option
@pass_client
def show(client: Client, instance: str | None, as_json: bool) -> None:
    """Show the script, how often its rules have counted, and what none was about."""
    shown = client.replies(find_instance_id(client, instance))
    if as_json:
        show_json(shown)
        return
    for owner, found in (("own", shown["own"]), ("the server's", shown["server"])):
        if found is not None:
            _show_script(owner, found)
    if shown["own"] is None and shown["server"] is None:
        note("There is no script. Give one with: chowder-local replies set FILE")


@replies.command("clear")
@instance_option
@pass_client
def clear(client: Client, instance: str | None) -> None:
    """Remove the script."""
    client.clear_replies(find_instance_id(client, instance))
    note("There is no script any more.")


@click.command(cls=Command)
@json_option
@click.argument("instance")
@click.argument("exchange", required=False)
@click.option("-n", "--limit", default=20, show_default=True, help="So many of the latest.")
@pass_client
def exchanges(
    client: Client, as_json: bool, instance: str, exchange: str | None, limit: int
) -> None:
    """List an agent's latest model calls, or show one as it was sent and answered."""
    if exchange is not None:
        _show_exchange(client.exchange(exchange), as_json=as_json)
        return
    found = client.exchanges(find_instance(client, instance)["id"], limit)
    headings = ("ID", "AT", "SESSION", "SOURCE", "OUTCOME", "TOOK", "SENT", "BACK")
    show_list(found, headings, _exchange_row, as_json=as_json)


def _exchange_row(exchange: dict[str, Any]) -> tuple[str, ...]:
    return (
        exchange["id"],
        exchange["at"][11:19],
        session_title(exchange),
        exchange["source"],
        exchange["outcome"] or "…",
        "…" if exchange["took_s"] is None else f"{exchange['took_s']:.2f} s",
        str(exchange["request_bytes"]),
        str(exchange["answer_bytes"]),
    )


def _show_script(owner: str, found: dict[str, Any]) -> None:
    rules = zip(found["script"].get("replies", []), found["used"], strict=True)
    show_table(
        ("SCRIPT", "RULE", "USED", "MATCH"),
        [
            (
                owner,
                rule.get("name", f"replies[{number}]"),
                str(used),
                _brief(rule.get("match", {})),
            )
            for number, (rule, used) in enumerate(rules)
        ],
    )
    for missed in found["unmatched"]:
        note(f"No rule was about: turn {missed['turn']}, {missed['text']!r}, of {missed['model']}")


def _show_exchange(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    say(json.dumps(found["request"], indent=2, ensure_ascii=False))
    for chunk in found["chunks"]:
        note(f"# {chunk['after_s']:.3f} s")
        say(chunk["text"].rstrip("\n"))


def _brief(match: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in match.items()) or "anything"
