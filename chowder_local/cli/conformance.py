"""`conformance`: judges a service by the published contract, and reports where it drifts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from chowder_local.cli.options import Command, yes_option
from chowder_local.cli.output import agrees, ask, count_of, note, say_text
from chowder_local.conformance.run import Run, require_pytest, run
from chowder_local.conformance.service import BASE_URL, KEY, OPTIONAL, Service, Target
from chowder_local.core.addresses import is_loopback
from chowder_local.core.errors import FAILURE
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.cli.context import Context

QUESTION = "The part that only reads holds. Make an agent, keys and organizations at"


@click.command(cls=Command)
@click.argument("url", required=False)
@click.option(
    "--key-env",
    default=KEY,
    show_default=True,
    metavar="NAME",
    help="Variable that has an organization's key. If it is unset, the key is asked for.",
)
@click.option("--read-only", is_flag=True, help="Only read, and change nothing.")
@click.option(
    "--as",
    "target",
    type=click.Choice([str(each) for each in Target]),
    help="Which side of the differences to expect. By default local on this machine, else hosted.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(OPTIONAL),
    help="Leave out tests: costs (they call a model), stays (they sign up), slow. Repeatable.",
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the drift report to this file, as JSON if it ends with .json, else as Markdown. "
    "Repeatable.",
)
@yes_option
@click.pass_obj
def conformance(
    context: Context,
    url: str | None,
    key_env: str,
    read_only: bool,
    target: str | None,
    without: Sequence[str],
    reports: Sequence[Path],
    yes: bool,
) -> int:
    """Judge the service at URL, such as https://api.example/v1, by the published contract.

    URL may be left out if CONFORMANCE_BASE_URL is set. First comes the part of the suite that only
    reads. If it finds no drift but known ones, and after asking, the whole suite follows: it makes
    an agent, keys and two organizations, sends about 25 messages, and removes all but the
    organizations, which no call can delete. Exits with 1 if there is a drift that no entry of the
    differences explains. It needs pytest: pip install 'chowder-local[conformance]'
    """
    require_pytest()
    service = _service(context, url, key_env, target)
    result = run(service, context.env, is_read_only=True)
    if not read_only:
        if _has_failed(result):
            note("The whole suite does not run, because the part that only reads has failed.")
        elif yes or agrees(f"{QUESTION} {service.base_url}?"):
            result = run(service, context.env, without=without)
    _report(result, service, reports)
    return FAILURE if _has_failed(result) else 0


def _service(context: Context, url: str | None, key_env: str, target: str | None) -> Service:
    base_url = (url or context.env.get(BASE_URL, "")).rstrip("/")
    host = urlsplit(base_url).hostname
    if not base_url.startswith(("http://", "https://")) or host is None:
        raise SettingsInvalid("Name the service's base URL, such as https://api.example/v1.")
    key = context.env.get(key_env) or ask(f"Key for {base_url}", hide_input=True)
    side = Target.LOCAL if is_loopback(host) else Target.HOSTED
    return Service(base_url, key, Target(target or side))


def _has_failed(result: Run) -> bool:
    return result.code != 0 or bool(result.unexplained)


def _report(result: Run, service: Service, files: Sequence[Path]) -> None:
    from chowder_local.conformance.run import as_json, as_markdown

    content = as_json(result, service.base_url, str(service.target), datetime.now(UTC))
    text = as_markdown(content, result.findings)
    for file in files:
        is_json = file.suffix == ".json"
        file.write_text(json.dumps(content, indent=2) + "\n" if is_json else text, encoding="utf-8")
        note(f"The report is in {file}.")
    if not files:
        say_text(text)
    drifts = count_of(len(result.findings), "drift")
    note(f"{drifts}, of which {len(result.unexplained)} are in no entry of the differences.")
