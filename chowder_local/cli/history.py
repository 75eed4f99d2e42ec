"""What agents did and do: `sessions`, `activity`, `usage`, `calls`, `trace`, `events`, `logs`."""

from __future__ import annotations

import json
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from textwrap import indent
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import (
    SHORT_ID_LENGTH,
    Row,
    find_instance,
    find_instance_id,
    instance_argument,
    noun,
)
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import (
    WAIT_TIMEOUT_S,
    Command,
    TimeType,
    complete_instance,
    output_option,
)
from chowder_local.cli.output import (
    Output,
    at,
    count_of,
    format_time,
    note,
    note_text,
    say,
    say_text,
    show_json,
    show_list,
    show_result,
    show_table,
    waiting,
)
from chowder_local.core.errors import ChowderError
from chowder_local.core.visible_text import visible_line
from chowder_local.core.wording import MOMENT_S, parse_duration
from chowder_local.openclaw.session_keys import MAIN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from chowder_local.cli.output import Column
    from chowder_local.client import Client

FAILED = "failed"
MAX_FAILED = 5
ROUND_S = 25.0
"""The longest wait of one call."""
MAX_ARGUMENTS = 60
"""Characters of a tool's arguments in a table that is not wide."""


def _session_name(session: Mapping[str, Any]) -> str:
    name = session["key"] if session["name"] is None else session["name"]
    return "(main)" if session["is_main"] else str(name)


def _compaction(compaction: dict[str, Any]) -> str:
    if compaction["is_compacted"]:
        return "Compacted."
    return f"Not compacted: {compaction['reason'] or 'OpenClaw does not say why'}."


def _cancelled(cancelled: dict[str, Any]) -> str:
    ended = ", ".join(cancelled["cancelled"])
    return f"Ended: {ended}" if ended else "Nothing was in progress."


# fmt: off
sessions = noun("sessions", """List, read and change the sessions of an agent.

    A session is named by its NAME, `main`, or OpenClaw's key. Only those of running agents can be
    changed.
    """, {
    "ls": Row("sessions", "instance",
        "List the sessions of INSTANCE: the main one first, then the last used ones.",
        columns={
            "NAME": _session_name, "MESSAGES": "messages", "CREATED": at("created_at"),
            "LAST USED": at("last_used_at"),
        }, wide={"KEY": "key", "CHANNEL": "channel"}),
    "reset": Row("reset_session", "instance name",
        "End what runs in a session, and make the agent forget the conversation.",
        done="{name} is empty.", asks="Make {instance[name]} forget the session {name}?"),
    "compact": Row("compact_session", "instance name",
        "Have the agent's model summarize a session's older messages.", line=_compaction),
    "abort": Row("abort_session", "instance name",
        "End the turns of a session, and drop its messages that wait.", line=_cancelled),
    "rm": Row("delete_session", "instance name",
        "Remove a session with its transcript; the main session can only be reset.",
        done="{name} is removed.", asks="Remove the session {name} of {instance[name]}?"),
})


def _activity_lines(activity: dict[str, Any]) -> list[str]:
    since = f" since {format_time(activity['since'], 19)}" if activity["since"] else ""
    lines = [f"{activity['status']}{since}", *_tree(activity, "")]
    lines += [f"OpenClaw: {each}" for each in activity["other"]]
    if activity["problem"]:
        lines.append(f"Tasks are unknown: {activity['problem']}")
    return lines


def _tree(node: Mapping[str, Any], margin: str) -> Generator[str]:
    for turn in node.get("turns", ()):
        whose = turn["job"] or turn["channel"] or turn["kind"]
        where = turn["session"] or turn["session_key"] or "-"
        tools = ", ".join(
            f"{each['name']} {each['arguments'][:MAX_ARGUMENTS]}" for each in turn["tools"]
        )
        doing = tools or (turn["model"] if turn["state"] == "calling_model" else None) or ""
        yield (
            f"{margin}{turn['trace_id']}  {whose} in {where}: {turn['state']} "
            f"since {format_time(turn['since'], 19)} {doing}"
        ).rstrip()
        yield from _tree(turn, margin + "  ")
    for task in node.get("tasks", ()):
        yield f"{margin}{task['task_id']}  {task['kind']}: {task['title']}, {task['status']}"
        yield from _tree(task, margin + "  ")


def _cancel(client: Client, instance_id: str, item: str | None) -> Any:
    if item is None:
        return client.cancel_activity(instance_id)
    return client.cancel_activity_item(instance_id, item)


activity = noun("activity", """Show what an agent is doing, wait until it is idle, or end it.

    `events` follows it as it happens.
    """, {
    "show": Row("activity", "instance",
        "Show what INSTANCE is doing: its turns, the tools that run, and its tasks.",
        line=_activity_lines),
    "cancel": Row(_cancel, "instance", "End all that INSTANCE is doing, or one turn or task.",
        (click.argument("item", required=False),), line=_cancelled),
})
# fmt: on


@activity.command("wait", cls=Command)
@output_option
@instance_argument
@click.option(
    "--timeout", type=click.FloatRange(0), default=WAIT_TIMEOUT_S, show_default=True,
    help="Seconds to wait.",
)  # fmt: skip
@pass_client
def _wait(client: Client, output: Output, instance: str, timeout: float) -> None:
    """Wait until INSTANCE is idle: no turn, no task, and no report of a sub-agent still to come."""
    agent = find_instance(client, instance)
    until_s = time.monotonic() + timeout
    with waiting(f"{agent['name']} works", MOMENT_S):
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            found = client.wait_until_idle(agent["id"], timeout_s=min(left_s, ROUND_S))
            if found["status"] == "idle" or not left_s:
                break
    if found["status"] != "idle":
        doing = "\n".join(map(visible_line, _activity_lines(found)))
        raise click.ClickException(
            f"{visible_line(agent['name'])} is not idle after {timeout:g} s:\n{doing}"
        )
    show_result(found, "It is idle.", output=output)


@sessions.command("show")
@output_option
@instance_argument
@click.argument("name", required=False)
@click.option("-s", "--session", help="Name of the session, in place of NAME, as in `chat`.")
@click.option("--key", help="OpenClaw's key of a session without a name, as 'ls' shows it.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="Last messages."
)
@click.option("--before", type=click.IntRange(0), help="Only messages before this position.")
@click.pass_obj
def show_session(
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
        say(_heading(turn))
        if turn["text"]:
            say_text(indent(turn["text"], "  "))


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


@click.command(cls=Command)
@output_option
@instance_argument
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
    if is_list:
        show_list(turns, TURN_COLUMNS, output=output, wide={"SESSION KEY": "session_key"})
        return
    found = [
        each
        for each in turns
        if response is None or _id(each).startswith(response) or each["id"].startswith(response)
    ]
    if not found:
        what = f"no turn {response}" if response else "no turn"
        raise click.ClickException(
            f"{visible_line(agent['name'])} has {what} in memory. See: trace {instance} --list"
        )
    if response is None:
        failed = [each for each in turns if each["status"] == FAILED]
        for each in failed[:MAX_FAILED]:
            if each is not found[0]:
                why = f": {each['error']}" if each["error"] else ""
                note(f"{_id(each)} failed at {format_time(each['at'], 19)}{why}")
    view = client.trace(agent["id"], found[0]["id"])
    if output is Output.JSON:
        show_json(view)
        return
    job = f" {view['job']}" if view["job"] else ""
    kind = "" if view["kind"] == "message" else f"{view['kind']}{job}, "
    is_main = view["session_key"] == MAIN_KEY
    session = "the main session" if is_main else f"session {session_title(view)}"
    say(f"{_id(view)}, {kind}{session}, {format_time(view['at'], 19)}")
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


TURN_COLUMNS: dict[str, Column] = {
    "RESPONSE": _id,
    "AT": lambda turn: format_time(turn["at"], 19),
    "BEGAN BY": lambda turn: turn["job"] or turn["kind"],
    "SESSION": session_title,
    "STATUS": lambda turn: turn["status"].replace("_", " "),
    "TOOK": lambda turn: f"{turn['took_s']:.2f} s",
    "MODEL CALLS": "model_calls",
}


def _step_row(step: dict[str, Any], *, is_wide: bool) -> tuple[str, ...]:
    is_tool = step["kind"] == "tool"
    tokens = "-"
    if step["input_tokens"] is not None:
        tokens = f"{step['input_tokens']} + {step['output_tokens']}"
    details = f"{step['model_call_id']}: {step['error'] or step['outcome'] or 'in progress'}"
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


@click.command(cls=Command)
@output_option
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option("-t", "--type", "prefix", default="", help="Only types that begin so: boot, model.")
@pass_client
def events(client: Client, output: Output, instance: str | None, prefix: str) -> None:
    """Follow the events of all instances, or those of INSTANCE, until Ctrl-C.

    With --output json, each event is one line.
    """
    instance_id = find_instance_id(client, instance)
    with closing(client.events(instance_id)) as following:
        for event in following:
            if event["type"].startswith(prefix):
                say(json.dumps(event) if output is Output.JSON else _event_line(event, output))


def _event_line(event: dict[str, Any], output: Output) -> str:
    members = dict(event)
    at, kind = members.pop("at"), members.pop("type")
    whose = members.pop("instance_id", None) or "-"
    if output is Output.TABLE:
        at, whose = at[11:23], whose[:SHORT_ID_LENGTH]
    known = (f"{name}={value}" for name, value in members.items() if value is not None)
    return f"{at}  {whose}  {kind}  {' '.join(known)}".rstrip()


class Since(TimeType):
    """A time in ISO 8601, in this machine's zone if it names none, or how long ago it was."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            with suppress(ValueError):
                return datetime.now(UTC) - parse_duration(value)
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time such as 2026-11-28T10:00 nor 10m.", param, ctx)


@click.command(cls=Command)
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option("--all", "is_all", is_flag=True, help="All agents; their names begin the lines.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.option(
    "--tail", type=click.IntRange(1), default=200, show_default=True, help="Number of latest lines."
)
@click.option(
    "--since",
    type=Since(),
    help="Leave out lines before this time, or before so long ago: 10m, 2h.",
)
@pass_client
def logs(
    client: Client,
    instance: str | None,
    is_all: bool,
    follow: bool,
    tail: int,
    since: datetime | None,
) -> None:
    """Print the log of the sandbox of INSTANCE (name, id, or beginning of an id).

    With --all and --follow, the agents are those that there are now.
    """
    if is_all is (instance is not None):
        raise click.UsageError("Give either INSTANCE or --all.")

    read = partial(client.logs, tail=tail, follow=follow, since=since)
    if instance is not None:
        _show_log(read, find_instance(client, instance)["id"])
        return
    # A log that is followed has no end. The threads are daemons, so that Ctrl-C ends them all.
    threads = [
        Thread(target=_show_one_of_all, args=(read, agent), daemon=True)
        for agent in client.instances()
    ]
    for thread in threads:
        thread.start()
        if not follow:
            thread.join()
    for thread in threads:
        thread.join()


def _show_log(read: Callable[[str], Generator[str]], instance_id: str, prefix: str = "") -> None:
    with closing(read(instance_id)) as lines:
        for line in lines:
            say_text(visible_line(prefix) + line)


def _show_one_of_all(read: Callable[[str], Generator[str]], agent: dict[str, Any]) -> None:
    try:
        _show_log(read, agent["id"], f"{agent['name']} | ")
    except ChowderError as failure:
        note_text(f"{visible_line(agent['name'])}: {failure}")
