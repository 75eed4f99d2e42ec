"""`approvals`: commands of agents that wait for an approval, and when an agent asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import Row, choose, noun, short_id
from chowder_local.cli.output import at
from chowder_local.features.approvals.openclaw import Ask, Decision, Security

if TYPE_CHECKING:
    from chowder_local.client import Client


def _allow(client: Client, instance_id: str, approval_id: str, always: bool) -> dict[str, Any]:
    decision = Decision.ALLOW_ALWAYS if always else Decision.ALLOW_ONCE
    return client.decide_approval(instance_id, approval_id, decision)


def _deny(client: Client, instance_id: str, approval_id: str) -> dict[str, Any]:
    return client.decide_approval(instance_id, approval_id, Decision.DENY)


def _policy(
    client: Client, instance_id: str, allow: tuple[str, ...], **words: str | None
) -> dict[str, Any]:
    given: dict[str, Any] = {name: each for name, each in words.items() if each is not None}
    if allow:
        given["allowlist"] = [{"pattern": each} for each in allow if each]
    if given:
        return client.set_approval_policy(instance_id, **given)
    return client.approval_policy(instance_id)


def _described(policy: dict[str, Any]) -> str:
    programs = [
        " ".join(filter(None, (each["pattern"], each["arg_pattern"])))
        for each in policy["allowlist"]
    ]
    return (
        f"asks: {policy['ask']}; may run: {policy['security']}; if nobody decides: "
        f"{policy['ask_fallback']}; allowlist: {', '.join(programs) or 'empty'}"
    )


def _find(client: Client, reference: str, given: dict[str, Any]) -> dict[str, Any]:
    waiting = client.approvals(given["instance"]["id"])
    return choose([{**each, "name": each["command"]} for each in waiting], reference, "approval")


# fmt: off
approvals = noun("approvals", """List commands that wait for an approval, allow or deny them.

    An agent asks by its policy, and by default it never does. A command is given by its id, the
    beginning of its id, or its text.
    """, {
    "ls": Row("approvals", "instance", "List an agent's commands that wait, the longest first.",
        columns={"ID": short_id, "SINCE": at("since"), "UNTIL": at("until"), "COMMAND": "command"},
        wide={"SESSION": "session_key", "FOLDER": "cwd",
            "WARNINGS": lambda each: "; ".join(each["warnings"])},
        if_empty="No command waits for an approval."),
    "allow": Row(_allow, "instance approval", "Let a command run that waits.",
        options=(click.option("--always", is_flag=True,
            help="Such commands do not wait any more, unless the agent always asks."),),
        line="It runs: {command}"),
    "deny": Row(_deny, "instance approval", "Deny a command that waits.",
        line="It does not run: {command}"),
    "policy": Row(_policy, "instance",
        "Show when an agent asks, or change what the options give.",
        options=(
            click.option("--ask", type=click.Choice([each.value for each in Ask]),
                help="Before each command, before those that are not on the list, or never."),
            click.option("--security", type=click.Choice([each.value for each in Security]),
                help="What may run: any command, those on the list and those allowed, or none."),
            click.option("--ask-fallback", type=click.Choice([each.value for each in Security]),
                help="What may run of the commands about which nobody decides in time."),
            click.option("--allow", multiple=True, metavar="PROGRAM",
                help="All programs on the list, by name or pattern of the path; '' for none."),
        ), line=_described),
}, {"approval": _find})
# fmt: on
