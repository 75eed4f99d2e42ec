"""Seeding from beginning to end: read, look, plan, do, and report what was declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.seeding.desired_state import read_document
from chowder_local.seeding.plan import plan
from chowder_local.seeding.steps import Create

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from chowder_local.seeding.desired_state import DesiredOrganization
    from chowder_local.seeding.source_locations import SourceLocations
    from chowder_local.seeding.steps import Step
    from chowder_local.seeding.target import SeedTarget


@dataclass(frozen=True)
class SeedFile:
    """A seed file that makes sense by itself."""

    desired: Sequence[DesiredOrganization]
    locations: SourceLocations


@dataclass(frozen=True)
class Seeded:
    """How many steps it took, and the ids and keys of all that the file declares."""

    step_count: int
    declared: Mapping[str, Any]


def read_seed(file: Path, env: Mapping[str, str]) -> SeedFile:
    """Reads a seed file with all that it refers to. Raises SettingsInvalid."""
    document, locations = read_document(file, env)
    return SeedFile(document.organizations, locations)


def seed(file: SeedFile, target: SeedTarget, report: Callable[[str], None]) -> Seeded:
    """Brings a server to what the file says; `report` gets each step before it is taken.

    Raises SettingsInvalid for what is in the way of it; the steps before it stay taken.
    """
    current = target.current_state(file.desired, file.locations)
    steps = plan(file.desired, current, file.locations, target.removal)
    for number, step in enumerate(steps, 1):
        report(f"[{number}/{len(steps)}] {step}")
        _take(step, target, file.locations)
    _wait_for_created(steps, target, file.locations)
    organizations = [_declared(each, target) for each in file.desired]
    return Seeded(len(steps), {"base_url": target.public_url, "organizations": organizations})


def _take(step: Step, target: SeedTarget, locations: SourceLocations) -> None:
    try:
        step.take(target)
    except (ApiRefused, BootFailed) as refused:
        locations.fail(step.location, f"Could not {step.description}: {refused}")


def _wait_for_created(
    steps: Sequence[Step], target: SeedTarget, locations: SourceLocations
) -> None:
    for step in steps:
        if isinstance(step, Create):
            name = step.instance.name
            try:
                target.running_agent(step.organization, name)
            except BootFailed as failed:
                locations.fail(step.location, f"{name} was created, but does not run: {failed}")


def _declared(desired: DesiredOrganization, target: SeedTarget) -> dict[str, Any]:
    kept = target.memory.organizations[desired.name]
    return {
        "name": desired.name,
        "id": kept.id,
        "key": target.key(desired.name),
        "instances": [
            {"name": each.name, "id": target.instance_id(desired.name, each.name)}
            for each in desired.instances
        ],
        "keys": [
            {"name": each.name, "id": kept.keys[each.name].id, "key": kept.keys[each.name].raw_key}
            for each in desired.keys
        ],
    }
