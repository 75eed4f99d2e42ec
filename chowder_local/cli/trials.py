"""`trials`: runs the cases of a file, each several times, and says whether enough trials pass."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from chowder_local.cli.commands import find_instance, find_snapshot
from chowder_local.cli.exec import Signals
from chowder_local.cli.options import Command, output_option
from chowder_local.cli.output import Output, count_of, note, show_list, waiting
from chowder_local.cli.seed import SEED_PATH, read_file, seed_server
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors import FAILURE
from chowder_local.trials.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from chowder_local.cli.context import Context
    from chowder_local.client import Client
    from chowder_local.trials.case_runs import Fork
    from chowder_local.trials.cases import Case
    from chowder_local.trials.run import TrialsReport


@click.command(cls=Command)
@output_option
@click.argument("file", type=SEED_PATH)
@click.option("--seed", type=click.IntRange(min=0), help="Seed, to repeat the trials of a run.")
@click.pass_obj
def trials(context: Context, output: Output, file: Path, seed: int | None) -> int:
    """Run the cases of FILE (YAML), each several times on forks of one state.

    A case passes if the share of its trials passes that the file demands. Exits with 1 if a case
    does not.
    """
    from chowder_local.openclaw.models import DEFAULT_MODELS
    from chowder_local.trials.case_runs import CaseRunner
    from chowder_local.trials.cases import read_cases
    from chowder_local.trials.run import new_seed

    cases = read_cases(file)
    reports: dict[str, TrialsReport] = {}
    with Signals(), context.client() as client, waiting("The trials begin", 1.0) as update:
        default = DEFAULT_MODELS[ModelProvider.ANTHROPIC]
        runner = CaseRunner(client, cases, new_seed() if seed is None else seed, default)
        try:
            for case in cases.cases:
                most = count_of(cases.plan(case).trials, "trial")
                update(f"{case.name}: {most}, at most")
                with _forks(context, client, case, file.parent) as fork:
                    reports[case.name] = runner.run(case, fork)
        finally:
            runner.close()
    _show(reports, output)
    has_passed = all(each.verdict is Verdict.PASSED for each in reports.values())
    return 0 if has_passed else FAILURE


@contextmanager
def _forks(context: Context, client: Client, case: Case, folder: Path) -> Iterator[Fork]:
    """A function that forks the state of a case. A new agent, if it is one, is deleted."""
    state = case.state
    if state is None:
        made = client.create_instance(case.name)
        try:
            client.wait_until_running(made["id"])
            yield partial(client.fork, made["id"])
        finally:
            client.delete(made["id"])
    elif state.snapshot is not None:
        yield partial(client.fork_snapshot, find_snapshot(client, state.snapshot)["id"])
    else:
        if state.seed is not None:
            seed_server(context, read_file(context, folder / state.seed))
        yield partial(client.fork, find_instance(client, str(state.instance))["id"])


def _show(reports: Mapping[str, TrialsReport], output: Output) -> None:
    found = {name: {"name": name, **each.as_json()} for name, each in reports.items()}
    show_list(
        list(found.values()),
        {
            "CASE": "name",
            "VERDICT": "verdict",
            "PASSED": lambda each: f"{each['passed']} of {each['passed'] + each['failed']}",
            "INTERVAL": lambda each: "{:.3f} to {:.3f}".format(*each["interval"]),
            "COST": lambda each: "-" if each["cost_usd"] is None else f"{each['cost_usd']:.4f}",
            "TURNS": "turns",
            "SEED": "seed",
        },
        output=output,
        wide={"AT LEAST": "at_least", "TOKENS": "tokens", "MODEL CALLS": "model_calls"},
    )
    for name, report in reports.items():
        if report.verdict is not Verdict.PASSED:
            note(f"{name}: {report.headline}. {report.certainty}")
            for each in report.first_failures():
                number, reason = each.number, each.reason
                note(f"  trial {number}, seed {each.seed}: {reason}")
