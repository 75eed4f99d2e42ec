"""Seeds a server: reads the file, plans the steps, takes them, and returns ids and keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.seeding.home import AT_ONCE
from chowder_local.seeding.plan import Create, WriteFile, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chowder_local.seeding.desired_state import DesiredOrganization, Document
    from chowder_local.seeding.plan import SeedStep
    from chowder_local.seeding.target import SeedTarget


@dataclass(frozen=True)
class SeedResult:
    """The number of steps, and the ids and keys of everything that the file declares."""

    step_count: int
    declared: Mapping[str, Any]


def seed(file: Document, target: SeedTarget, report: Callable[[str], None]) -> SeedResult:
    """Brings a server to the declared state; `report` is called with each step before it is taken.

    Raises SettingsInvalid if a step is impossible or refused; earlier steps are not undone.
    """
    current = target.current_state(file.organizations)
    steps = plan(file.organizations, current, target.removal, takes_homes=target.takes_homes)
    take(steps, target, report)
    organizations = [_declared(each, target) for each in file.organizations]
    return SeedResult(len(steps), {"base_url": target.public_url, "organizations": organizations})


def take(steps: Sequence[SeedStep], target: SeedTarget, report: Callable[[str], None]) -> None:
    """Takes the steps of a plan in order, files several at once; then all created agents run.

    Raises SettingsInvalid as `seed` does.
    """

    def take_one(numbered: tuple[int, SeedStep]) -> None:
        number, step = numbered
        report(f"[{number}/{len(steps)}] {step}")
        _take(step, target)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind, group in groupby(enumerate(steps, 1), lambda each: type(each[1])):
            # The others follow from one another.
            list((pool.map if kind is WriteFile else map)(take_one, group))
    _wait_for_created(steps, target)
    target.settle()


def _take(step: SeedStep, target: SeedTarget) -> None:
    try:
        step.take(target)
    except (ApiRefused, BootFailed) as refused:
        step.location.fail(f"Could not {step.description}: {refused}")


def _wait_for_created(steps: Sequence[SeedStep], target: SeedTarget) -> None:
    for step in steps:
        if isinstance(step, Create):
            name = step.instance.name
            try:
                target.running_agent(step.organization, name)
            except BootFailed as failed:
                step.location.fail(f"{name} was created, but does not run: {failed}")


def _declared(desired: DesiredOrganization, target: SeedTarget) -> dict[str, Any]:
    stored = target.memory.organizations[desired.name]
    keys = stored.keys
    return {
        "name": desired.name,
        "id": stored.id,
        "key": target.key(desired.name),
        "instances": [
            {"name": each.name, "id": target.instance_id(desired.name, each.name)}
            for each in desired.instances
        ],
        "keys": [
            {"name": each.name, "id": keys[each.name].id, "key": keys[each.name].raw_key}
            for each in desired.keys
        ],
    }
