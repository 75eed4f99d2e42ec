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
    """The server's default, and why the engine cannot isolate sandboxes, if it cannot."""

    default: Egress = Egress.ON
    problem: str | None = None

    def effective(self, instance: Instance) -> Egress:
        """The instance's own setting, or else the server's default."""
        return instance.egress or self.default

    def fits(self, instance: Instance, sandbox: SandboxInfo) -> bool:
        """Whether the sandbox has the network that this rule gives it, or does not exist."""
        if sandbox.state is SandboxState.MISSING:
            return True
        return sandbox.is_confined and sandbox.egress is self.effective(instance)

    def check(self, egress: Egress) -> None:
        """Raises EgressUnavailable if egress is to be off and the engine cannot isolate."""
        if egress is Egress.OFF and self.problem is not None:
            raise EgressUnavailable(self.problem)
