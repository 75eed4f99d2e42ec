"""`messages`: what agents say without being asked."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import find_instance
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import WAIT_TIMEOUT_S, Command, complete_instance, output_option
from chowder_local.cli.output import Output, format_time, note, say, say_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.client import Client

    Page = Callable[[int, float], Mapping[str, Any]]
    """A part of a list, after a number and within so many seconds."""

ROUND_S = 25.0
"""The longest wait of one call."""

follow_option = click.option("-f", "--follow", is_flag=True, help="Print new ones as they come.")
wait_option = click.option(
    "--wait", "is_waiting", is_flag=True, help="Wait for the next one, and print only that."
)
timeout_option = click.option(
    "--timeout", type=float, default=WAIT_TIMEOUT_S, show_default=True, help="Seconds to wait."
)


@click.command(cls=Command)
@output_option
@click.argument("instance", shell_complete=complete_instance)
@click.option("-s", "--session", help="Only those in this session: its name, or `main`.")
@follow_option
@wait_option
@timeout_option
@pass_client
def messages(
    client: Client,
    output: Output,
    instance: str,
    session: str | None,
    follow: bool,
    is_waiting: bool,
    timeout: float,
) -> None:
    """Print what an agent said without being asked.

    That are reports of sub-agents after the answer, answers to jobs, to webhooks, and heartbeats.
    With --output json, each is one line.
    """
    agent = find_instance(client, instance)

    def page(after: int, wait_s: float) -> Mapping[str, Any]:
        return client.messages(agent["id"], after=after, wait_s=wait_s, session=session)

    for each in listed(page, "messages", follow=follow, is_waiting=is_waiting, timeout_s=timeout):
        show(each, _message_line(each), each["text"], output)


def listed(
    page: Page, member: str, *, follow: bool, is_waiting: bool, timeout_s: float
) -> Iterator[dict[str, Any]]:
    """The entries of a list, and those that come later."""
    after = 0
    until_s = time.monotonic() + timeout_s
    while entries := (found := page(after, 0.0))[member]:
        if found["is_incomplete"] and not is_waiting and not after:
            note("Earlier ones are not kept any more.")
        after = found["after"]
        if not is_waiting:
            yield from entries
    while follow or is_waiting:
        left_s = until_s - time.monotonic()
        if is_waiting and left_s <= 0:
            raise click.ClickException(f"Nothing came within {timeout_s:g} s.")
        found = page(after, min(ROUND_S, left_s) if is_waiting else ROUND_S)
        after = found["after"]
        for each in found[member]:
            yield each
            if is_waiting:
                return


def show(entry: Mapping[str, Any], line: str, text: str, output: Output) -> None:
    """Prints an entry: its line and its text, or as JSON."""
    if output is Output.JSON:
        say(json.dumps(entry, ensure_ascii=False))
    else:
        say(line)
        say_text(text)


def _message_line(message: Mapping[str, Any]) -> str:
    whose = message["job"] or message["kind"]
    where = f" in {message['session']}" if message["session"] else ""
    return f"{format_time(message['at'], 19)}  {whose}{where}"
