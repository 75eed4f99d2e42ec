"""The calls for an agent's skills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.client.transport import Json, Transport, instance_path

if TYPE_CHECKING:
    from collections.abc import Mapping

__tracebackhide__ = True

CHANGE_TIMEOUT_S = 300.0
"""For a download, and for settings with which the agent must restart."""


class SkillCalls(Transport):
    """The calls for skills: instructions and programs for a task."""

    def skills(self, instance_id: str, *, eligible_only: bool = False) -> list[Json]:
        """All skills, or only those that the agent can use now."""
        path = instance_path(instance_id, "skills")
        return self._list(path, eligible_only=str(eligible_only).lower())

    def skill(self, instance_id: str, name: str) -> Json:
        """One skill, with its `path` in the sandbox."""
        return self._call("GET", instance_path(instance_id, "skills", name))

    def install_skill(
        self, instance_id: str, slug: str, env: Mapping[str, str] | None = None
    ) -> Json:
        """Installs a skill from ClawHub; `required_env` names the variables that it needs."""
        body: Json = {"slug": slug}
        if env is not None:
            body["env"] = dict(env)
        path = instance_path(instance_id, "skills", "install")
        return self._call("POST", path, json=body, timeout=CHANGE_TIMEOUT_S)

    def change_skill(self, instance_id: str, name: str, **change: Any) -> None:
        """Merges `enabled`, `apiKey`, `env` or `config` with a skill's settings."""
        path = instance_path(instance_id, "skills", name)
        self._call("PATCH", path, json=change, timeout=CHANGE_TIMEOUT_S)
