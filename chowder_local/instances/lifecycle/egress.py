"""Which instances have network egress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import Egress, SandboxState
from chowder_local.core.errors.sandboxes import EgressUnavailable

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, SandboxInfo


@dataclass(frozen=True)
class EgressRule:
    """The server's own setting, and why the engine cannot keep a sandbox in, if it cannot."""

    default: Egress = Egress.ON
    problem: str | None = None

    def effective(self, instance: Instance) -> Egress:
        """What is in force for an instance."""
        return instance.egress or self.default

    def fits(self, instance: Instance, sandbox: SandboxInfo) -> bool:
        """Whether a sandbox, if there is one, is as the rule has it now."""
        if sandbox.state is SandboxState.MISSING:
            return True
        return sandbox.is_confined and sandbox.egress is self.effective(instance)

    def check(self, egress: Egress) -> None:
        """Raises EgressUnavailable."""
        if egress is Egress.OFF and self.problem is not None:
            raise EgressUnavailable(self.problem)
