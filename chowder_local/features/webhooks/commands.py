"""`hooks` and `inbox`: webhooks to agents, and those that they send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import Row, find_instance, noun
from chowder_local.cli.context import pass_client
from chowder_local.cli.messages import (
    follow_option,
    listed,
    show,
    timeout_option,
    wait_option,
)
from chowder_local.cli.options import Command, complete_instance, output_option
from chowder_local.cli.output import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.cli.output import Output
    from chowder_local.client import Client


@click.command("ls", cls=Command)
@output_option
@click.argument("instance", shell_complete=complete_instance)
@follow_option
@wait_option
@timeout_option
@pass_client
def _list_inbox(
    client: Client, output: Output, instance: str, follow: bool, is_waiting: bool, timeout: float
) -> None:
    """Print the webhooks that an agent sent. With --output json, each is one line."""
    agent = find_instance(client, instance)

    def page(after: int, wait_s: float) -> Mapping[str, Any]:
        return client.inbox(agent["id"], after=after, wait_s=wait_s)

    for each in listed(page, "webhooks", follow=follow, is_waiting=is_waiting, timeout_s=timeout):
        show(each, _webhook_line(each), each["body"], output)


inbox = noun(
    "inbox",
    """The webhooks that an agent sends, such as a job's: its inbox takes them.

    Agents reach their inbox also without Internet, and only their own.
    """,
    {
        "url": Row("inbox", "instance", "Print the inbox's address for the agent.", line="{url}"),
        "clear": Row(
            "clear_inbox", "instance", "Remove the webhooks of an inbox.", done="Cleared."
        ),
    },
)
inbox.add_command(_list_inbox)


def _send_hook(client: Client, instance_id: str, hook: str, body: str) -> Any:
    try:
        content = json.loads(body)
    except ValueError as problem:
        raise click.BadParameter(f"BODY is not JSON: {problem}") from None
    return client.send_hook(instance_id, hook, content)


hooks = noun(
    "hooks",
    """Send webhooks to agents, as a service in the Internet would.""",
    {
        "send": Row(
            _send_hook,
            "instance hook body",
            """Send BODY, which is JSON, to a hook of an agent.

            HOOK is `wake` with a `text`, `agent` with a `message`, or the name of a mapping of the
            setting hooks.mappings.
            """,
        ),
    },
)


def _webhook_line(webhook: Mapping[str, Any]) -> str:
    query = f"?{webhook['query']}" if webhook["query"] else ""
    line = f"{webhook['method']} {webhook['path'] or '/'}{query}"
    return f"{format_time(webhook['at'], 19)}  {line}"
