"""Seeding from beginning to end: read, look, plan, do, and tell what was declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.seeding.desired_state import resolved
from chowder_local.seeding.document import read_document
from chowder_local.seeding.execution import PlanExecution
from chowder_local.seeding.plan import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from chowder_local.seeding.desired_state import WantedOrganization
    from chowder_local.seeding.source_locations import SourceLocations
    from chowder_local.seeding.target import Server


@dataclass(frozen=True)
class SeedFile:
    """A seed file that makes sense by itself."""

    wanted: tuple[WantedOrganization, ...]
    places: SourceLocations


@dataclass(frozen=True)
class Seeded:
    """How many steps it took, and the ids and keys of all that the file declares."""

    step_count: int
    declared: Mapping[str, Any]


def read_seed(file: Path, env: Mapping[str, str]) -> SeedFile:
    """Reads a seed file with all that it refers to. Raises SettingsInvalid."""
    document, places = read_document(file)
    return SeedFile(resolved(document, places, file.parent, env), places)


def seed(file: SeedFile, server: Server, tell: Callable[[str], None]) -> Seeded:
    """Brings a server to what the file says; `tell` hears each step as it is taken.

    Raises SettingsInvalid for what is in the way of it; the steps before it stay taken.
    """
    found = server.look(file.wanted, file.places)
    steps = plan(file.wanted, found, file.places, server.removal)
    doing = PlanExecution(server, file.places)
    for number, step in enumerate(steps, 1):
        tell(f"[{number}/{len(steps)}] {step}")
        doing.take(step)
    doing.finish()
    organizations = [_declared(each, server) for each in file.wanted]
    return Seeded(len(steps), {"base_url": server.told_url, "organizations": organizations})


def _declared(wanted: WantedOrganization, server: Server) -> dict[str, Any]:
    kept = server.memory.organizations[wanted.name]
    return {
        "name": wanted.name,
        "id": kept.id,
        "key": server.key(wanted.name),
        "instances": [
            {"name": each.name, "id": server.instance_id(wanted.name, each.name)}
            for each in wanted.instances
        ],
        "keys": [
            {"name": each.name, "id": kept.keys[each.name].id, "key": kept.keys[each.name].raw_key}
            for each in wanted.keys
        ],
    }
