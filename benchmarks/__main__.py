"""The command `scripts/bench`: the only reader of the environment and the arguments."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from benchmarks import containers, machine, report
from benchmarks.bench import UNMEASURED, open_bench
from benchmarks.catalogue import QUICK, ROWS
from benchmarks.results import Outcome
from chowder_local.cli.output import note, say, waiting
from chowder_local.cli.up import ensure_image
from chowder_local.core.errors import ChowderError
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench import Bench

FILE = click.Path(dir_okay=False, writable=True, path_type=Path)
UNSEEN_WIDTH = 180
INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)), metavar="[ROW]...")
@click.option("--quick", "is_quick", is_flag=True, help="Eight rows in some minutes, coarsely.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds, instead of each row's own.")
@click.option("--json", "json_file", type=FILE, help="Write everything, single values included.")
@click.option(
    "--markdown",
    "markdown_file",
    type=FILE,
    help="Write the table for docs/explanation/benchmarks.md.",
)
@click.option("--list", "is_list", is_flag=True, help="List the rows.")
@click.option("--keep-image", is_flag=True, help="Leave stock OpenClaw's image for the next run.")
@click.option("--sweep", is_flag=True, help="Remove what killed runs left on the engine.")
@click.pass_obj
def bench(
    env: Mapping[str, str],
    rows: tuple[str, ...],
    is_quick: bool,
    rounds: int | None,
    json_file: Path | None,
    markdown_file: Path | None,
    is_list: bool,
    keep_image: bool,
    sweep: bool,
) -> int:
    """Measure ROWs, or all rows: this server and its peers alternately, in one run.

    The exit code is 1 if a row could not be measured. A missed goal is not a failure.
    """
    if is_list:
        for name, row in ROWS.items():
            say(f"{name:15} {row.summary}")
        return 0
    if sweep:
        return _sweep(env)
    chosen: dict[str, int | None] = dict.fromkeys(rows or ROWS, rounds)
    if is_quick:
        chosen = {name: rounds or QUICK[name] for name in QUICK if name in chosen}
    outcomes, facts, is_whole = _run(env, chosen, keep_image=keep_image, is_quick=is_quick)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNSEEN_WIDTH)
    console.print(report.table(outcomes))
    console.print(f"\n{report.describe(facts)}", markup=False)
    options = {"rows": list(chosen), "rounds": rounds, "is_whole": is_whole}
    if json_file is not None:
        content: dict[str, Any] = report.as_json(outcomes, facts, options)
        json_file.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    if markdown_file is not None:
        markdown_file.write_text(report.markdown(outcomes, facts), encoding="utf-8")
    if not is_whole:
        return INTERRUPTED
    return int(any(outcome.problem for outcome in outcomes))


def _run(
    env: Mapping[str, str], rows: Mapping[str, int | None], *, keep_image: bool, is_quick: bool
) -> tuple[list[Outcome], dict[str, Any], bool]:
    """The rows' outcomes, the machine, and whether all rows were measured.

    An interruption ends the run early. Raises KeyboardInterrupt if no row was measured before.
    """
    settings = Settings.read(env)
    ensure_image(settings, env)
    outcomes: list[Outcome] = []
    facts: dict[str, Any] = {}
    try:
        with (
            waiting("starting") as progress,
            open_bench(env, progress, keep_image=keep_image, is_quick=is_quick) as run,
        ):
            facts = machine.facts(run.client, expected_tag(settings))
            for number, (name, run.rounds) in enumerate(rows.items(), 1):
                began_s = time.monotonic()
                outcomes.append(_measured(run, name, progress))
                progress(f"[{number}/{len(rows)}] {name}: {time.monotonic() - began_s:.0f} s")
    except KeyboardInterrupt:
        if not outcomes:
            raise
        note("Interrupted: these rows were measured before. What the run made was removed.")
        return outcomes, facts, False
    return outcomes, facts, True


def _measured(run: Bench, name: str, progress: Callable[[str], None]) -> Outcome:
    row = ROWS[name]
    run.progress = lambda step: progress(f"{name}: {step}")
    try:
        outcome = row.measure(run)
    except UNMEASURED as reason:
        problem = str(reason) or type(reason).__name__
        note(f"{name}: not measured: {problem}")
        return Outcome(name, row.summary, problem=problem)
    return outcome


def _sweep(env: Mapping[str, str]) -> int:
    client = open_client(find_engine(env))
    try:
        count = containers.remove_all(client) + containers.remove_images(client)
        say(f"Removed {count} containers and images.")
    finally:
        client.close()
    return 0


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Runs the command line; Ctrl-C and SIGTERM clean up like a normal end."""
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        code = bench.main(prog_name="scripts/bench", obj=dict(os.environ), standalone_mode=False)
    except ChowderError as failure:
        note(f"Error: {failure}")
        sys.exit(1)
    except click.ClickException as refusal:
        refusal.show()
        sys.exit(refusal.exit_code)
    except (click.Abort, KeyboardInterrupt):
        note("Interrupted: what the run made was removed.")
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
