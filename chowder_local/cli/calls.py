"""`calls` and `rerun`: agents' model calls, runs as files, and running a turn again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.agent_contents import save
from chowder_local.cli.commands import find_instance, instance_argument, wait_until_running
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.diff import read_file, show
from chowder_local.cli.history import session_title
from chowder_local.cli.options import (
    Command,
    Group,
    ensure_writable,
    output_option,
    timeout_option,
    yes_option,
)
from chowder_local.cli.output import (
    Output,
    agrees,
    count_of,
    note,
    say_text,
    show_json,
    show_list,
    waiting,
)
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.secrets import REDACTED, redact, secret_values
from chowder_local.core.visible_text import visible_text
from chowder_local.core.wording import MOMENT_S, size_of
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.recordings import RecordedCall
from chowder_local.relay.runs import Run, RunCall, RunTurn, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chowder_local.cli.output import Column
    from chowder_local.client import Client

NAME_MAX = 128
LISTED_TURNS = 1_000
REPLAYED_TURNS = 20
"""So many turns are replayed after a snapshot, at most."""
ROUND_S = 25.0
"""The longest wait of one call."""
MESSAGE = "message"
NOT_SENT = {"stream", "session", "instance_id"}
"""Members of a message that are not sent again; in a file, they may be anybody's."""


class Calls(Group):
    """The group `calls`, which was a command in 0.1: `calls AGENT` is `calls show AGENT`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=Calls)
def calls() -> None:
    """Show an agent's model calls; keep a run in a file, and replay it elsewhere."""


@calls.command("show")
@output_option
@instance_argument
@click.argument("call", required=False)
@click.option("-n", "--limit", default=20, show_default=True, help="Number of latest calls.")
@pass_client
def _list(client: Client, output: Output, instance: str, call: str | None, limit: int) -> None:
    """List an agent's latest model calls, or show the request and answer of one."""
    if call is not None:
        _show_call(client.model_call(call), output=output)
        return
    rows = client.model_calls(find_instance(client, instance)["id"], limit)
    columns: dict[str, Column] = {
        "ID": "id",
        "AT": lambda call: call["at"][11:19],
        "SESSION": session_title,
        "SOURCE": "source",
        # The source already says that it was the offline model.
        "OUTCOME": lambda call: "answered" if (o := call["outcome"]) == "offline" else o or "…",
        "TOOK": lambda call: "…" if call["took_s"] is None else f"{call['took_s']:.2f} s",
        "SENT": lambda call: size_of(call["request_bytes"]),
        "BACK": lambda call: size_of(call["answer_bytes"]),
    }
    wide = {"PROVIDER": "provider", "PATH": "path", "TURN": "turn_id"}
    show_list(rows, columns, output=output, wide=wide)


def _show_call(call: dict[str, Any], *, output: Output) -> None:
    if output is Output.JSON:
        show_json(call)
        return
    show_json(call["request"])
    for chunk in call["chunks"]:
        note(f"# {chunk['after_s']:.3f} s")
        say_text(chunk["text"].rstrip("\n"))


@calls.command("export")
@click.argument("run")
@click.argument(
    "file", type=click.Path(dir_okay=False, path_type=Path), default="run.json", required=False
)
@yes_option
@click.pass_obj
def _export(context: Context, run: str, file: Path, yes: bool) -> None:
    """Keep a RUN in FILE (run.json): its messages, model calls and answers, without secrets.

    A RUN is as for 'diff'; of one turn, the earlier turns of its session that are in memory come
    along. What is left out are the keys and tokens of the server, values of this shell's variables
    with names of secrets, and what looks like a key or a token. What people and tools said stays:
    look through the file before you give it away.
    """
    ensure_writable(file, yes=yes)
    secrets = secret_values(context.env)
    with context.client() as client:
        found = Run.model_validate(client.run(run, earlier=True, redact=True)).redacted(secrets)
    text = found.model_dump_json(indent=1, exclude_none=True)
    if redact(text, secrets) != text:
        raise click.ClickException("A secret would be left in the file. It is not written.")
    save([text.encode(), b"\n"], file, 0o600)
    made = [call for turn in found.turns for call in turn.calls]
    note(
        f"{file}: {count_of(len(found.turns), 'turn')}, {count_of(len(made), 'model call')}; "
        f"{count_of(text.count(REDACTED), 'secret')} left out."
    )
    if missing := sum(turn.missing_calls for turn in found.turns):
        note(f"Not in memory any more: {count_of(missing, 'model call')}.")
    for call in made:
        if call.answered is None:
            note(f"{call.id} has no whole answer: a replay ends there.")


@calls.command("import")
@output_option
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name", required=False)
@timeout_option
@pass_client
def _import(client: Client, output: Output, file: Path, name: str | None, timeout: float) -> None:
    """Replay the run in FILE on a new agent, NAME, and show what differs.

    The agent gets the messages of the file, and its model calls get the answers of the file, in
    their order: no model is called. Its tools really run. Files, skills and settings of the first
    agent are not in the file.
    """
    run = read_file(file)
    agent = client.create_instance((name or file.stem)[:NAME_MAX], run.model_provider)
    agent = wait_until_running(client, agent, timeout, is_for_message=True)
    begun: set[str | None] = set()
    for turn in run.turns:
        if turn.kind != MESSAGE or not turn.calls:
            note(f"Left out: {turn.id}, which no message began or which called no model.")
            continue
        replay = Replay(client, agent["id"], turn, turn.calls)
        replay.send(has_history=turn.session in begun)
        begun.add(turn.session)
    client.end_replay(agent["id"])
    found = compare(run, Run.model_validate(client.run(agent["id"])))
    if output is Output.JSON:
        show_json({"instance": agent, "diff": found.as_json()})
        return
    show(found, output)
    _say_how_to_go_on(agent)


@dataclass
class Replay:
    """A turn that is sent to another agent, with the answers to its first model calls."""

    client: Client
    instance_id: str
    turn: RunTurn
    answers: Sequence[RunCall]
    then_live: bool = False

    def send(
        self, *, model: str | None = None, is_edited: bool = False, has_history: bool = True
    ) -> str | None:
        """Sends the message; returns why the turn failed, if it did.

        `has_history` says whether the agent knows the earlier turns of the session.
        """
        entries = {}
        for number, call in enumerate(self.answers, 1):
            if call.answered is None:
                break
            entry = RecordedCall(asked=call.asked, answered=call.answered)
            entries[f"{number:05}"] = entry.model_dump(mode="json", exclude_none=True)
        self.client.replay(self.instance_id, entries, in_order=True, then_live=self.then_live)
        body = self._message(has_history=has_history)
        if model is not None:
            body["model"] = model
        if not is_edited:
            with waiting("The agent is answering", MOMENT_S):
                return self._respond(body)
        match = {"call_number": len(self.answers) + 1}
        self.client.set_breakpoint(self.instance_id, match, once=True)
        with ThreadPoolExecutor(1) as threads:
            sent = threads.submit(self._respond, body)
            try:
                while True:
                    for held in self.client.held_calls(self.instance_id, wait_s=1):
                        self._edit(held["id"])
                    if sent.done():
                        break
            except BaseException:
                # Nobody will let the call go on.
                self.client.cancel_activity(self.instance_id)
                raise
            return sent.result()

    def _message(self, *, has_history: bool) -> dict[str, Any]:
        """The message as it was sent, or else its text alone; with the history before it."""
        first = self.turn.calls[0].asked.turns
        messages = [at for at, each in enumerate(first) if "said" in each]
        place = messages[-1] if messages else len(first)
        text = str(first[place]["said"]) if messages else ""
        request: dict[str, Any] = {"model": self.turn.calls[0].model_id, "input": text}
        if self.turn.request is None:
            note(f"{self.turn.id}: only the text of the message is known, and is sent.")
        else:
            request |= {
                name: each for name, each in self.turn.request.items() if name not in NOT_SENT
            }
        if not has_history and isinstance(request["input"], str) and place:
            message = {"type": "message", "role": "user", "content": request["input"]}
            request["input"] = [*_history(first[:place]), message]
        return request

    def _respond(self, body: dict[str, Any]) -> str | None:
        try:
            self.client.respond(self.instance_id, session=self.turn.session, **body)
        except ApiRefused as refused:
            return str(refused)
        return None

    def _edit(self, call_id: str) -> None:
        """Has a person edit the request of a held call, and lets it go on."""
        request = self.client.model_call(call_id)["request"]
        text, changed = json.dumps(request, indent=2, ensure_ascii=False), None
        while changed is None:
            edited = click.edit(visible_text(text), extension=".json")
            if edited is None:
                note("The request is not changed.")
                break
            text = edited
            try:
                changed = json.loads(text)
            except ValueError as invalid:
                agrees(f"That is no JSON: {invalid}. Edit it again?", abort=True)
        self.client.resume_call(call_id, changed)


def _history(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns of a recorded prompt as items of the Responses API."""
    items: list[dict[str, Any]] = []
    ids: list[str] = []
    results = 0
    for turn in turns:
        if "called" in turn:
            ids.append(f"call_{len(ids)}")
            arguments = json.dumps(turn.get("with", {}), ensure_ascii=False)
            items.append(
                {"type": "function_call", "call_id": ids[-1], "name": turn["called"],
                 "arguments": arguments}
            )  # fmt: skip
        elif "returned" in turn:
            call_id = ids[results] if results < len(ids) else f"call_{results}"
            results += 1
            items.append(
                {"type": "function_call_output", "call_id": call_id, "output": turn["returned"]}
            )
        else:
            role = "user" if "said" in turn else "assistant"
            content = next(iter(turn.values()), "")
            items.append({"type": "message", "role": role, "content": content})
    return items


@click.command(cls=Command)
@output_option
@click.argument("response")
@click.option(
    "--from", "call", required=True, metavar="CALL",
    help="The first model call that is made anew: its id, or its number in the turn, from 1.",
)  # fmt: skip
@click.option("-m", "--model", help="Another model, from CALL on.")
@click.option("--edit", is_flag=True, help="Edit the request of CALL in $EDITOR first.")
@click.option("--as", "name", help="Name of the new agent.")
@timeout_option
@pass_client
def rerun(
    client: Client,
    output: Output,
    response: str,
    call: str,
    model: str | None,
    edit: bool,
    name: str | None,
    timeout: float,
) -> None:
    """Run a turn again on a fork: as it was up to CALL, and from there anew.

    RESPONSE is the id of an answer or a turn, or the beginning of it. The fork has the state before
    the message: that of a snapshot, if one was taken between the turn before and the message, or
    before a few messages that are replayed then; else the present state with the conversation set
    back to before the message, and its files as they are now. The model calls before CALL get their
    former answers; the agent's tools really run again. The fork has the agent's reply rules.
    """
    run = Run.model_validate(client.run(response))
    if len(run.turns) != 1 or run.instance_id is None:
        raise click.UsageError(f"{response} is no answer or turn. 'trace AGENT --list' lists them.")
    (turn,) = run.turns
    is_named = turn.session is not None or turn.session_key == MAIN_KEY
    if turn.kind != MESSAGE or not is_named or not turn.calls:
        raise click.ClickException("Only a turn that a client's message began can be run again.")
    if turn.missing_calls:
        raise click.ClickException(
            "Not all of the turn's model calls are in memory any more. Export a run that you want "
            "to keep, with 'calls export'."
        )
    number = _number(turn, call)
    if any(each.answered is None for each in turn.calls[: number - 1]):
        raise click.ClickException(
            "Not all answers before that call are kept: an answer has more than a megabyte, or "
            "its call is in progress."
        )
    agent = find_instance(client, run.instance_id)
    rules = client.replies(agent["id"])["own"]

    def started(fork: dict[str, Any]) -> dict[str, Any]:
        if rules is not None:
            client.set_replies(rules["script"], fork["id"])
        return wait_until_running(client, fork, timeout, is_for_message=True)

    title = (name or f"{agent['name']} rerun")[:NAME_MAX]
    fork, state = _restored(client, agent, turn, title, started)
    note(f"{fork['name']} ({fork['id']}) {state}")
    replay = Replay(client, fork["id"], turn, turn.calls[: number - 1], then_live=True)
    failure = replay.send(model=model, is_edited=edit)
    client.end_replay(fork["id"])
    again = Run.model_validate(client.run(client.traces(fork["id"], 1)[0]["id"]))
    found = compare(run, again)
    if output is Output.JSON:
        show_json(
            {"instance": fork, "state": state, "response_id": again.turns[0].response_id,
             "error": failure, "diff": found.as_json()}
        )  # fmt: skip
        return
    show(found, output)
    _say_how_to_go_on(fork)


def _number(turn: RunTurn, call: str) -> int:
    """The number of a model call in a turn, from its id or that number."""
    ids = [each.id for each in turn.calls]
    if call in ids:
        return ids.index(call) + 1
    if call.isdecimal() and 1 <= int(call) <= len(ids):
        return int(call)
    raise click.UsageError(f"{call} is no model call of the turn. It has: {', '.join(ids)}.")


def _restored(
    client: Client,
    agent: dict[str, Any],
    turn: RunTurn,
    name: str,
    wait: Callable[[dict[str, Any]], dict[str, Any]],
) -> tuple[dict[str, Any], str]:
    """A running fork with the state before a turn, and what it has of that state."""
    at = turn.at
    if at is None:
        raise click.ClickException("The run does not say when the turn began.")
    traces = client.traces(agent["id"], LISTED_TURNS)
    for snapshot in reversed(client.snapshots(agent["id"])):
        taken = datetime.fromisoformat(snapshot["created_at"])
        later = [each for each in traces if taken < _end(each) and _begin(each) < at]
        if taken > at or len(later) > REPLAYED_TURNS:
            continue
        runs = [Run.model_validate(client.run(each["id"])).turns[0] for each in reversed(later)]
        if any(_begin(each) < taken for each in later) or not all(map(_is_replayable, runs)):
            continue
        fork = wait(client.fork_snapshot(snapshot["id"], name))
        for each in runs:
            Replay(client, fork["id"], each, each.calls).send()
        title = snapshot["name"] or snapshot["id"]
        replayed = f", and {count_of(len(runs), 'later message')} replayed" if runs else ""
        return fork, f"has the state of the snapshot {title}{replayed}."
    fork = wait(client.fork(agent["id"], name))
    position = _position(client, fork["id"], turn)
    client.rewind_session(fork["id"], turn.session or "main", position)
    return fork, (
        "has the conversation before the message, and files, settings and other sessions as they "
        "are now: no snapshot is of the time before."
    )


def _begin(trace: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(trace["at"])


def _end(trace: dict[str, Any]) -> datetime:
    return _begin(trace) + timedelta(seconds=trace["took_s"])


def _is_replayable(turn: RunTurn) -> bool:
    is_named = turn.session is not None or turn.session_key == MAIN_KEY
    is_whole = not turn.missing_calls and all(e.answered is not None for e in turn.calls)
    return turn.kind == MESSAGE and is_named and is_whole and bool(turn.calls)


def _position(client: Client, instance_id: str, turn: RunTurn) -> int:
    """The position of a turn's message in its transcript."""
    before: int | None = None
    is_after = turn.response_id is None
    text = next((str(e["said"]) for e in reversed(turn.calls[0].asked.turns) if "said" in e), "")
    while True:
        page = client.transcript(instance_id, turn.session, limit=1000, before=before)
        for each in reversed(page["turns"]):
            is_after = is_after or each["response_id"] == turn.response_id
            is_it = turn.response_id is not None or each["text"] == text
            if each["role"] == "user" and is_after and is_it:
                return int(each["position"])
        before = page["before"]
        if before is None:
            raise click.ClickException(
                "The conversation does not have the message any more, and no snapshot is of the "
                "time before it. Take one before what you want to run again."
            )


def _say_how_to_go_on(agent: dict[str, Any]) -> None:
    note(f"Go on with: chowder-local chat {agent['id']}")
    note(f"Remove it with: chowder-local instances rm {agent['id']}")
