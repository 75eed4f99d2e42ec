"""Finds the containers of sandboxes on a Swarm node, where they bear the names of Swarm's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docker.errors import NotFound

from chowder_local.engine import labels
from chowder_local.engine.owned_resources import OwnedResources
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxId


class TaskContainers(OwnedResources):
    """The resources that bear this data directory's labels, on one node. All calls block."""

    def find(self, sandbox_id: SandboxId) -> Container | None:
        """The sandbox's newest container; None if there is none."""
        wanted = labels.sandbox_labels(self.store_id, sandbox_id)
        filters = {"label": [f"{name}={value}" for name, value in wanted.items()]}
        rows = self._client.api.containers(all=True, filters=filters)
        for row in sorted(rows, key=lambda each: int(each["Created"]), reverse=True):
            try:
                container = self._client.containers.get(row["Id"])
            except NotFound:
                continue
            ensure_awaited()
            return container
        return None
