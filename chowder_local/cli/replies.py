"""`replies` and `exchanges`: the scripts of the offline model, and the log of model calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.completion import complete_instance
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.history import session_title
from chowder_local.cli.options import Command, Group, output_option
from chowder_local.cli.output import Output, count_of, note, say, show_json, show_list, show_table
from chowder_local.cli.resolve import find_instance, find_instance_id
from chowder_local.core.wording import size_of

if TYPE_CHECKING:
    from chowder_local.client import Client

instance_option = click.option(
    "-i", "--instance", help="For one agent only: name, id, or beginning of an id."
)


@click.group(cls=Group)
def replies() -> None:
    """Script what the offline model says.

    A script is a YAML or JSON file of rules: which messages a rule matches, and its reply. It is in
    force for the organization, or for one agent with --instance, until it is cleared or the server
    stops.
    """


@replies.command("set")
@instance_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def set_(context: Context, instance: str | None, file: Path) -> None:
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
def show(client: Client, instance: str | None, output: Output) -> None:
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


@replies.command("clear")
@instance_option
@pass_client
def clear(client: Client, instance: str | None) -> None:
    """Remove the script."""
    client.clear_replies(find_instance_id(client, instance))
    note("The script is removed.")


@click.command(cls=Command)
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.argument("exchange", required=False)
@click.option("-n", "--limit", default=20, show_default=True, help="Number of latest calls.")
@pass_client
def exchanges(
    client: Client, output: Output, instance: str, exchange: str | None, limit: int
) -> None:
    """List an agent's latest model calls, or show the request and answer of one."""
    if exchange is not None:
        _show_exchange(client.exchange(exchange), output=output)
        return
    rows = client.exchanges(find_instance(client, instance)["id"], limit)
    headings = ("ID", "AT", "SESSION", "SOURCE", "OUTCOME", "TOOK", "SENT", "BACK")
    wide = {"PROVIDER": "provider", "PATH": "path", "TURN": "turn_id"}
    show_list(rows, headings, _exchange_row, output=output, wide=wide)


def _exchange_row(exchange: dict[str, Any]) -> tuple[str, ...]:
    # The source already says that it was the offline model.
    outcome = "answered" if exchange["outcome"] == "offline" else exchange["outcome"]
    return (
        exchange["id"],
        exchange["at"][11:19],
        session_title(exchange),
        exchange["source"],
        outcome or "…",
        "…" if exchange["took_s"] is None else f"{exchange['took_s']:.2f} s",
        size_of(exchange["request_bytes"]),
        size_of(exchange["answer_bytes"]),
    )


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


def _show_exchange(exchange: dict[str, Any], *, output: Output) -> None:
    if output is Output.JSON:
        show_json(exchange)
        return
    say(json.dumps(exchange["request"], indent=2, ensure_ascii=False))
    for chunk in exchange["chunks"]:
        note(f"# {chunk['after_s']:.3f} s")
        say(chunk["text"].rstrip("\n"))


def _describe_match(match: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in match.items()) or "anything"
