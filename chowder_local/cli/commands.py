"""What commands of nouns share: plain ones made of rows, finding by name, and waiting for agents.

What a command names is found by its id, the beginning of its id, or its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, overload

import click

from chowder_local.cli.context import pass_client
from chowder_local.cli.options import (
    WAIT_TIMEOUT_S,
    Command,
    Group,
    complete_instance,
    confirm,
    output_option,
    wait_option,
    yes_option,
)
from chowder_local.cli.output import (
    Output,
    format_time,
    note,
    say,
    show_json,
    show_list,
    show_result,
    waiting,
)
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed, BootTimedOut
from chowder_local.core.visible_text import visible_line
from chowder_local.core.wording import MOMENT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chowder_local.cli.output import Column
    from chowder_local.client import Client

    Decorator = Callable[[Any], Any]
    Finder = Callable[[Client, str, dict[str, Any]], dict[str, Any]]
    Text = str | Callable[[dict[str, Any]], str]
    Lines = str | Callable[[dict[str, Any]], str | Sequence[str]]


SHORT_ID_LENGTH = 8
instance_argument = click.argument("instance", shell_complete=complete_instance)


@dataclass(frozen=True)
class Row:
    """A plain command: it calls a method of the client, or a function of it, and prints the answer.

    `takes` names the arguments in the method's order, some with `=` and a default; `options` are
    further ones, which are passed by name. What `FINDERS` has is found, and its id is passed. An
    answer is printed as a table of `columns`, as a `line` or several, as the id of a new instance
    (`is_created`), or else as JSON; a call without an answer prints `done`. Before the call, it
    `asks`. The texts are formats, or functions, of the arguments and the answer's members.
    """

    call: str | Callable[..., Any]
    takes: str
    help: str
    options: tuple[Decorator, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    wide: Mapping[str, Column] = field(default_factory=dict)
    if_empty: Text | None = None
    items: Callable[[Any], Sequence[Any]] = list
    line: Lines | None = None
    is_created: bool = False
    note: Text = ""
    done: Text | None = None
    asks: Text | None = None


def noun(
    name: str, text: str, rows: Mapping[str, Row], finders: Mapping[str, Finder] | None = None
) -> Group:
    """The group of a noun's commands; `finders` are those of arguments that FINDERS lacks."""
    known = {**FINDERS, **(finders or {})}
    return Group(
        name, help=text, commands=[_command(each, row, known) for each, row in rows.items()]
    )


def _command(name: str, row: Row, finders: Mapping[str, Finder]) -> click.Command:
    arguments = [each.partition("=")[0] for each in row.takes.split()]

    def call(
        client: Client,
        /,
        output: Output = Output.JSON,
        yes: bool = True,
        wait: bool = True,
        **given: Any,
    ) -> None:
        for each, text in given.items():
            if each in finders and text is not None:
                given[each] = finders[each](client, text, given)
        if row.asks is not None:
            confirm(_text(row.asks, given), yes=yes)
        passed = {each: _id(value) if each in finders else value for each, value in given.items()}
        in_order = [passed.pop(each) for each in arguments]
        by_name = {f"{each}_id" if each in finders else each: passed[each] for each in passed}
        make = getattr(client, row.call) if isinstance(row.call, str) else partial(row.call, client)
        answer = make(*in_order, **by_name)
        _show(row, client, answer, given, output=output, wait=wait)

    command = pass_client(call)
    decorators = [
        *([output_option] if row.columns or row.line or row.is_created else []),
        *map(_argument, row.takes.split()),
        *row.options,
        *([yes_option] if row.asks else []),
        *([wait_option] if row.is_created else []),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return click.command(name, cls=Command, help=row.help)(command)


def _argument(word: str) -> Decorator:
    name, _, default = word.partition("=")
    complete = complete_instance if name == "instance" else None
    if name == word:
        return click.argument(name, shell_complete=complete)
    return click.argument(name, default=default, shell_complete=complete)


def _id(found: dict[str, Any] | None) -> str | None:
    return None if found is None else str(found["id"])


def _show(
    row: Row, client: Client, answer: Any, given: dict[str, Any], *, output: Output, wait: bool
) -> None:
    if row.done is not None:
        note(_text(row.done, given))
    elif row.columns:
        if_empty = None if row.if_empty is None else _text(row.if_empty, given)
        show_list(row.items(answer), row.columns, output=output, wide=row.wide, if_empty=if_empty)
    elif row.is_created:
        show_created(client, answer, output=output, wait=wait)
    elif row.line is not None:
        shown = _text(row.line, {**given, **answer})
        lines = [shown] if isinstance(shown, str) else shown
        show_result(answer, *lines, output=output)
        remark = _text(row.note, {**given, **answer})
        if remark and output is not Output.JSON:
            note(remark)
    else:
        show_json(answer)


@overload
def _text(text: Text, members: dict[str, Any]) -> str: ...
@overload
def _text(text: Lines, members: dict[str, Any]) -> str | Sequence[str]: ...
def _text(text: Lines, members: dict[str, Any]) -> str | Sequence[str]:
    return text.format(**members) if isinstance(text, str) else text(members)


def short_id(resource: dict[str, Any]) -> str:
    return str(resource["id"])[:SHORT_ID_LENGTH]


def find_instance(client: Client, reference: str) -> dict[str, Any]:
    """An instance. Raises click.ClickException if no instance or several match."""
    return choose_instance(client.instances(), reference)


def find_instance_id(client: Client, reference: str | None) -> str | None:
    """The id of an instance; None if `reference` is None."""
    return None if reference is None else str(find_instance(client, reference)["id"])


def choose_instance(instances: Sequence[dict[str, Any]], reference: str) -> dict[str, Any]:
    """Chooses by id, then by name, then by the beginning of an id."""
    return choose(instances, reference, "instance")


def find_key(client: Client, reference: str) -> dict[str, Any]:
    """A scoped key; an active one wins over those that are revoked or expired.

    Raises click.ClickException if no key or several match.
    """
    keys = client.keys()
    active = [each for each in keys if each["is_active"] or each["id"] == reference]
    return choose(active if any(_matches(active, reference)) else keys, reference, "key")


def find_fault(client: Client, reference: str) -> dict[str, Any]:
    """A fault, by id or kind. Raises click.ClickException if no fault or several match."""
    named = [{**each, "name": each["kind"]} for each in client.faults()]
    return choose(named, reference, "fault")


def find_snapshot(client: Client, reference: str, instance_id: str | None = None) -> dict[str, Any]:
    """A snapshot; one of the instance wins over those of other instances.

    Raises click.ClickException if no snapshot or several match.
    """
    snapshots = client.snapshots()
    own = [each for each in snapshots if each["instance_id"] == instance_id]
    candidates = own if any(_matches(own, reference)) else snapshots
    return choose(candidates, reference, "snapshot", describe_snapshot)


FINDERS: Mapping[str, Finder] = {
    "instance": lambda client, reference, _: find_instance(client, reference),
    "snapshot": lambda client, reference, given: find_snapshot(
        client, reference, _id(given.get("instance"))
    ),
}
"""What the arguments of these names find; those before are found already."""


def describe_snapshot(snapshot: dict[str, Any]) -> str:
    """The id and time of a snapshot, to tell snapshots of one name apart."""
    return f"{snapshot['id']}, of {format_time(snapshot['created_at'])}"


def _matches(resources: Sequence[dict[str, Any]], reference: str) -> Iterator[list[dict[str, Any]]]:
    """The matches by id, then those by name, then those by the beginning of an id."""
    yield [each for each in resources if each["id"] == reference]
    yield [each for each in resources if each["name"] == reference]
    yield [each for each in resources if reference and each["id"].startswith(reference.lower())]


def choose(
    resources: Sequence[dict[str, Any]],
    reference: str,
    kind: str,
    describe: Callable[[dict[str, Any]], str] = lambda each: f"{each['id']} ({each['name']})",
) -> dict[str, Any]:
    """The one of them that is meant, by id, name or the beginning of an id.

    Raises click.ClickException if none or several match.
    """
    for matches in _matches(resources, reference):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = visible_line("; ".join(map(describe, matches)))
            raise click.ClickException(
                f"{reference!r} matches several: {several}. Give more of the id."
            )
    raise click.ClickException(
        f"No {kind} is called {reference!r}, by name or id. '{kind}s ls' lists them all."
    )


def show_created(
    client: Client,
    instance: dict[str, Any],
    *,
    output: Output,
    wait: bool,
    timeout: float = WAIT_TIMEOUT_S,
) -> None:
    """Prints a new instance, after waiting until it runs if `wait`.

    The id is printed before the wait, because the wait may fail or be interrupted.
    """
    if output is not Output.JSON:
        say(instance["id"])
    if wait:
        instance = wait_until_running(client, instance, timeout)
    if output is Output.JSON:
        show_json(instance)


def wait_until_running(
    client: Client, agent: dict[str, Any], timeout: float, *, is_for_message: bool = False
) -> dict[str, Any]:
    """The instance once it is running; with `is_for_message`, the command then sends something.

    Raises BootFailed if it fails or is stopped, and BootTimedOut if it is late; the message says
    what to do next.
    """
    name, instance_id = visible_line(agent["name"]), agent["id"]
    next_step = f"Wait for it with: chowder-local instances wait {instance_id}"
    removal = f"Remove it with: chowder-local instances rm {instance_id}"
    if is_for_message:
        next_step = "Nothing is sent to it: run the command again, with a greater --timeout."

    def describe(status: str) -> str:
        boots = " (without a warm sandbox, OpenClaw boots now)"
        return f"{name} is {status}{boots if status == InstanceStatus.PROVISIONING else ''}"

    try:
        with waiting(describe(agent["status"]), after_s=MOMENT_S) as update:
            return client.wait_until_running(
                instance_id, timeout, on_status=lambda status: update(describe(status))
            )
    except KeyboardInterrupt:
        note(f"{name} continues to boot. {next_step}", removal)
        raise
    except BootTimedOut as late:
        cure = f"It continues to boot. {next_step}" + (f"\n{removal}" if is_for_message else "")
        raise BootTimedOut(f"{name}: {late}\n{cure}") from None
    except BootFailed as failed:
        cure = f"\nSee its log with: chowder-local logs {instance_id}"
        if client.status(instance_id)["status"] == InstanceStatus.STOPPED:
            cure = f"\nStart it with: chowder-local instances start {instance_id}"
        elif "chowder-local" in str(failed):
            # The message already says what to do.
            cure = ""
        raise BootFailed(f"{name}: {failed}{cure}") from None


def change_status(
    client: Client,
    agent: dict[str, Any],
    call: Callable[[str], dict[str, Any]],
    status: InstanceStatus,
    *,
    output: Output,
) -> None:
    """Starts or stops an instance and prints its status, even if it has that status already."""
    now, is_changed = call_for_status(client, agent, call, status)
    show_status(now, output, "" if is_changed else " already")


def call_for_status(
    client: Client,
    agent: dict[str, Any],
    call: Callable[[str], dict[str, Any]],
    status: InstanceStatus,
) -> tuple[dict[str, Any], bool]:
    """The instance with the status, and whether the call was needed for that."""
    try:
        return call(agent["id"]), True
    except ApiRefused as refused:
        if refused.status != HTTPStatus.CONFLICT:
            raise
        now = client.instance(agent["id"])
        if now["status"] != status:
            raise
        return now, False


def show_status(instance: dict[str, Any], output: Output, already: str = "") -> None:
    if output is Output.JSON:
        show_json(instance)
    else:
        note(f"{instance['name']} is {instance['status']}{already}.")
