"""Moving instances to newer OpenClaw releases, and what such a move would meet."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from chowder_local.core import untrusted_json
from chowder_local.core.domain import UPGRADE_SNAPSHOT_PREFIX, InstanceStatus
from chowder_local.core.errors.agents import InstanceInUse, UpgradeRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import gather_both
from chowder_local.openclaw.config.agent_config import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.core.domain import Instance, Snapshot
    from chowder_local.instances.configuration.initial_config import InitialConfigs
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.versions import OpenclawVersions

log = logging.getLogger(__name__)

ERROR = "error"
MAX_FINDINGS = 200
MAX_CHARACTERS = 1000
_MEMBERS = ("check", "severity", "message")


@dataclass(eq=False, repr=False, kw_only=True)
class Upgrades:
    """Boots an instance's volume with another release, after a snapshot of it.

    OpenClaw changes its databases when a newer release opens them, and an older one refuses them
    then. So the way back is the snapshot, which has the former `openclaw_version`.
    """

    checks: UpgradeChecks
    snapshots: Snapshots
    provisioner: Provisioner
    agents: Agents
    residency: Residency

    async def upgrade(self, stale: Instance, version: str) -> tuple[Instance, Snapshot]:
        """The instance, `provisioning` with another release, and the snapshot to go back to.

        What it does after the snapshot is on the volume, and so is not lost by the upgrade. Raises
        as `UpgradeChecks.ensure_possible`; InstanceInUse if it is answering a message; and as
        `Snapshots.take`.
        """
        instance = await self.checks.ensure_possible(stale, version)
        if self.residency.is_used(instance.id):
            raise InstanceInUse
        name = f"{UPGRADE_SNAPSHOT_PREFIX}{self.checks.versions.release(version)}"
        snapshot = await self.snapshots.take(instance, name)
        async with self.agents.holding(instance) as agent:
            await self.checks.ensure_possible(agent.row, version)
            if agent.row.is_in_memory:
                await agent.drain()
            if not await agent.to_provisioning(openclaw_version=version):
                await agent.raise_moved()
            self.provisioner.begin(agent.row)
        log.info(
            "instance %s: goes from OpenClaw %s to %s",
            instance.id,
            instance.openclaw_version,
            version,
        )
        return agent.row, snapshot


@dataclass(frozen=True)
class UpgradeFinding:
    """Something that OpenClaw's own checks find in a copy of the agent."""

    check: Annotated[str, Field(examples=["core/doctor/gateway-config"])]
    severity: Annotated[
        str, Field(description="`info`, `warning` or `error`.", examples=["warning"])
    ]
    message: Annotated[str, Field(examples=["gateway.mode is unset"])]
    is_expected: Annotated[
        bool,
        Field(description="Whether every upgrade has it, or the present release finds it as well."),
    ] = field(compare=False)


@dataclass(eq=False, repr=False)
class UpgradeChecks:
    """Tells whether an instance can move to an OpenClaw release, and what it would meet."""

    versions: OpenclawVersions
    directory: InstanceDirectory
    snapshots: Snapshots
    initial_configs: InitialConfigs
    engine: Engine

    def __post_init__(self) -> None:
        program = resources.files("chowder_local.openclaw.programs") / "check_upgrade.py"
        self._program = program.read_text("utf-8")

    async def ensure_possible(self, stale: Instance, version: str) -> Instance:
        """The instance as it is now, if it could move to a version.

        Raises VersionUnavailable; InstanceStateWrong if it is not running; UpgradeRefused if it
        has that release or a newer one.
        """
        await self.versions.check(version)
        instance = await self.directory.current(stale, InstanceStatus.RUNNING)
        former, wanted = map(self.versions.release, (instance.openclaw_version, version))
        if wanted == former:
            raise UpgradeRefused(f"The instance runs OpenClaw {former} already.")
        if not self.versions.is_newer(wanted, former):
            raise UpgradeRefused(
                f"OpenClaw {wanted} does not read what {former} has written. To go back, restore "
                "a snapshot of that time."
            )
        return instance

    async def examine(self, instance: Instance, version: str) -> list[UpgradeFinding]:
        """What the release's own checks find in a copy of the agent, news and the worst first.

        What the present release finds as well is expected. The agent goes on meanwhile. Raises as
        `Snapshots.take`, and EngineUnavailable.
        """
        async with self.snapshots.capture(instance) as snapshot:
            config = await self.initial_configs.of_snapshot(instance, snapshot)
            archive = self.snapshots.archives.path(snapshot.id)
            # Each takes half a minute of one processor.
            known, found = await gather_both(
                self._findings(archive, config, instance.openclaw_version),
                self._findings(archive, config, version),
            )
        judged = (replace(each, is_expected=each.is_expected or each in known) for each in found)
        return sorted(judged, key=lambda each: (each.is_expected, each.severity != ERROR))

    async def _findings(self, archive: Path, config: bytes, version: str) -> list[UpgradeFinding]:
        answer = await self.engine.examine_home(
            self._program, archive, {CONFIG_FILE: config}, version
        )
        try:
            # In a thread, which lets others run between its steps.
            report = await asyncio.to_thread(untrusted_json.read_encodable_object, answer)
        except ValueError as invalid:
            raise EngineUnavailable(
                f"The checks of OpenClaw {version} gave no report on the agent's files: {invalid}. "
                "What the agent keeps may disturb them: remove its plugins, and try again."
            ) from None
        return list(_findings(report))[:MAX_FINDINGS]


def _findings(answer: dict[str, Any]) -> Iterator[UpgradeFinding]:
    for each in untrusted_json.objects_of(answer.get("findings")):
        check, severity, message = (
            untrusted_json.text_of(each.get(name))[:MAX_CHARACTERS] for name in _MEMBERS
        )
        yield UpgradeFinding(check, severity, message, each.get("is_expected") is True)
