"""`diff`: what differs between two runs, side by side, or between an agent and a hosted one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, note, say, show_json, show_table
from chowder_local.core.errors import FAILURE
from chowder_local.relay import recordings
from chowder_local.relay.recordings import RecordedCall
from chowder_local.relay.runs import Comparison, Row, Run, RunStep, StepKind, compare

if TYPE_CHECKING:
    from chowder_local.cli.context import Context
    from chowder_local.client import Client

MARKS = {"same": "=", "differs": "≠", "only_a": "<", "only_b": ">"}
SHOWN_CHARACTERS = 60
SHOWN_SAME = 3
"""Of more steps in a row that are the same, only the first and the last are shown."""


@click.command(cls=Command)
@output_option
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something differs.")
@click.argument("a")
@click.argument("b")
@click.argument("instance", required=False)
@click.pass_obj
def diff(
    context: Context, output: Output, exit_code: bool, a: str, b: str, instance: str | None
) -> int:
    """Show two runs side by side, or how an agent of another server differs.

    A run is the id of an answer or a turn, or the beginning of it; an agent; a session as
    AGENT:SESSION; the folder or file of a recording; or a file of 'calls export'. The main session
    is AGENT:main. Prompts, tools, answers, tokens, cost and time are compared; times and ids in
    texts do not count. Of a long text, what differs first is shown; --output wide shows all.

    If B is the URL of another server, such as https://api.example/v1, A is a seed file or an agent
    here, and INSTANCE an agent there; the key is read from CHOWDER_REMOTE_KEY. Settings are
    compared one by one and files by their contents; secrets, channels and what the API does not
    show are not compared.
    """
    if "://" in b:
        from chowder_local.cli.remote import compare_remote

        if instance is None:
            raise click.UsageError(f"Name the agent of {b} after it.")
        is_same = compare_remote(context, a, b, instance, output)
    elif instance is not None:
        raise click.UsageError(f"{b} is no URL, so two runs are compared: leave {instance} out.")
    else:
        with context.client() as client:
            found = compare(read_run(client, a), read_run(client, b))
        show(found, output)
        is_same = found.is_same
    return FAILURE if exit_code and not is_same else 0


def read_run(client: Client, name: str) -> Run:
    """The run of a file or folder, or of that name on the server."""
    path = Path(name)
    if path.is_dir():
        return Run.from_recording(name, recordings.read(path))
    return read_file(path) if path.is_file() else Run.model_validate(client.run(name))


def read_file(path: Path) -> Run:
    """The run of a file. Raises ClickException if it has neither a run nor a recording."""
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and "entries" in content:
            entries = content["entries"].items()
            recording = {each: RecordedCall.model_validate(entry) for each, entry in entries}
            return Run.from_recording(str(path), recording)
        return Run.model_validate(content)
    except ValidationError as invalid:
        problem = invalid.errors()[0]
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    except (ValueError, AttributeError, RecursionError) as invalid:
        reason = str(invalid)
    raise click.ClickException(
        f"{path} is no file of 'calls export', and no recording of one agent: {reason}"
    )


def show(found: Comparison, output: Output) -> None:
    """Prints two runs side by side."""
    if output is Output.JSON:
        show_json(found.as_json())
        return
    is_wide = output is Output.WIDE
    show_table(("", "A", "B"), _totals(found), is_cut=not is_wide)
    say()
    rows: list[tuple[str, ...]] = []
    same: list[tuple[str, ...]] = []
    for row in found.rows:
        cells = _cells(row, is_wide=is_wide)
        line = (MARKS[row.status], *cells)
        if row.status == "same" and not is_wide:
            same.append(line)
            continue
        rows += [*_shortened(same), line]
        same = []
    show_table(("", "STEP", "A", "B"), [*rows, *_shortened(same)], is_cut=not is_wide)
    if found.is_same:
        note("The steps are the same.")


def _shortened(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    if len(lines) <= SHOWN_SAME:
        return lines
    return [lines[0], ("…", f"{len(lines) - 2} more steps", "", ""), lines[-1]]


def _totals(found: Comparison) -> list[tuple[str, ...]]:
    a, b = found.totals
    return [
        ("run", *found.titles),
        *(
            (name.replace("_", " "), str(getattr(a, name)), str(getattr(b, name)))
            for name in ("turns", "model_calls", "missing_calls", "tool_calls")
            if name != "missing_calls" or a.missing_calls or b.missing_calls
        ),
        ("tokens", *(f"{_known(each.input_tokens)} + {_known(each.output_tokens)}"
                     for each in found.totals)),
        ("cost", *("?" if each.cost_usd is None else f"${each.cost_usd:.4f}"
                   for each in found.totals)),
        ("time", *("?" if each.took_s is None else f"{each.took_s:.2f} s"
                   for each in found.totals)),
    ]  # fmt: skip


def _known(value: Any) -> str:
    return "?" if value is None else str(value)


def _cells(row: Row, *, is_wide: bool) -> tuple[str, str, str]:
    a, b = row.excerpts(sys.maxsize if is_wide else SHOWN_CHARACTERS)
    return row.title, _cell(row.a, a), _cell(row.b, b)


def _cell(step: RunStep | None, text: str) -> str:
    if step is None:
        return ""
    if step.kind is StepKind.MODEL:
        return f"{step.name}: {step.figures}, {step.model_call_id}"
    return f"{text} ({step.figures})" if step.figures else text
