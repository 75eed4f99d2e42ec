"""Seeds the organization of a test from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.seeding.desired_state import read_seed
from chowder_local.seeding.run import seed
from chowder_local.seeding.target import Memory, SeedTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chowder_local.testing.live import LiveInstance, LiveOrganization

__tracebackhide__ = True


def seed_organization(
    organization: LiveOrganization, file: Path, memory_file: Path, env: Mapping[str, str]
) -> dict[str, LiveInstance]:
    """Brings a test's organization to what a file declares for `default`; its instances by name.

    Raises SettingsInvalid if the file is invalid or a step is refused, ValueError if the file
    declares another organization, and BootFailed if an instance does not run.
    """
    declared = read_seed(file, env)
    others = [each.name for each in declared.organizations if each.name != DEFAULT]
    if others:
        raise ValueError(
            f"{file} declares {', '.join(others)}. A test has one organization: call it {DEFAULT}."
        )
    base_url = organization.base_url

    def removal(_: str, instance_id: str) -> str:
        return f"chowder_organization.client.delete({instance_id!r})"

    def report(_: str) -> None:
        """The report of a failed test has what went wrong."""

    memory, root_url = Memory(memory_file), base_url.removesuffix("/v1")
    with SeedTarget(
        root_url, organization.key, memory, report, public_url=base_url, removal=removal
    ) as target:
        (result,) = seed(declared, target, report).declared["organizations"]
    known = {each.id: each for each in organization.instances}
    return {
        each["name"]: known.get(each["id"]) or organization.adopt(each["id"])
        for each in result["instances"]
    }
