"""Lists, installs and configures an agent's skills."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import (
    ClawHubUnavailable,
    RpcRefused,
    SkillInstalled,
    SkillNotFound,
    SkillRefused,
)
from chowder_local.openclaw.sandbox_exec import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.sandbox_exec import Control, Processes

REACH_TIMEOUT_S = 5.0
PROGRAM_TIMEOUT_S = REACH_TIMEOUT_S + 5.0
INSTALL_TIMEOUT_S = 120.0
LISTING_TIMEOUT_S = 2.5
LISTING_INTERVAL_S = 0.25
MAX_SKILLS = 2_000
"""OpenClaw brings some fifty. Reading so many takes 30 ms."""

# OpenClaw has no error codes for most failures of an installation, so these match its messages.
_UNKNOWN = "not found on ClawHub"
_INSTALLED = "Skill already exists"
_UNAVAILABLE = (
    "fetch failed",
    "timed out",
    "temporarily unavailable",
    "rate limit",
    "response stalled",
    "malformed JSON",
    "authentication failed",
    "denied access",
    "trust check failed",
)


@dataclass(frozen=True)
class Skill:
    """A skill as OpenClaw reports it; `key` is its key in the configuration."""

    name: str
    description: str
    source: str
    is_ready: bool
    path: str
    key: str
    folder: str
    required_env: tuple[str, ...] = ()
    missing_env: tuple[str, ...] = ()
    missing_programs: tuple[str, ...] = ()
    missing_settings: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    """The operating systems that it supports, if the sandbox's is not among them."""
    primary_env: str = ""
    """The environment variable that gets the value of `apiKey`."""
    homepage: str = ""
    is_disabled: bool = False


@dataclass(frozen=True)
class SkillSettings:
    """The names of a skill's configured settings, without their values."""

    has_api_key: bool
    env: tuple[str, ...]
    config: tuple[str, ...]


@dataclass(frozen=True)
class Installation:
    """The result of `Skills.install`; `output` is OpenClaw's."""

    skill: str
    output: str
    env_applied: tuple[str, ...]
    required_env: tuple[str, ...]
    missing_env: tuple[str, ...]
    message: str


class Skills:
    def __init__(
        self,
        control: Control,
        processes: Processes,
        gateway_of: GatewayOf,
    ) -> None:
        self._control = control
        self._gateway_of = gateway_of
        self._clawhub_probe = Program(processes, "reach.mjs")

    async def list_skills(self, instance: Instance, *, is_ready_only: bool = False) -> list[Skill]:
        """The skills, sorted by name. Raises GatewayUnavailable, RpcRefused, SandboxPaused."""
        status = await self._control.call(instance.sandbox_id, "skills.status", {})
        entries = untrusted_json.objects_of(status.get("skills"))
        skills = map(_skill, entries[:MAX_SKILLS])
        return sorted(
            (each for each in skills if each.is_ready or not is_ready_only),
            key=lambda each: each.name,
        )

    async def get(self, instance: Instance, name: str) -> Skill:
        """The skill with this name. Raises SkillNotFound, too, if there is none."""
        for each in await self.list_skills(instance):
            if each.name == name:
                return each
        raise SkillNotFound

    async def settings(self, instance: Instance, skill: Skill) -> SkillSettings:
        """A skill's settings. Raises GatewayUnavailable, RpcRefused."""
        answer = await self._gateway(instance).call("config.get", {})
        entry = untrusted_json.object_at(answer, "sourceConfig", "skills", "entries", skill.key)
        return SkillSettings(
            has_api_key=bool(entry.get("apiKey")),
            env=tuple(untrusted_json.object_at(entry, "env")),
            config=tuple(untrusted_json.object_at(entry, "config")),
        )

    async def install(self, instance: Instance, slug: str, env: Mapping[str, str]) -> Installation:
        """Installs a skill from ClawHub and sets its environment variables.

        Raises ClawHubUnavailable if the sandbox cannot reach ClawHub, SkillNotFound if ClawHub has
        no such skill, SkillInstalled if the agent has it, and SkillRefused if OpenClaw refuses it;
        nothing is installed then. Raises GatewayUnavailable, too.
        """
        await self._check_clawhub(instance.sandbox_id, slug)
        try:
            result = await self._control.call(
                instance.sandbox_id,
                "skills.install",
                {"source": "clawhub", "slug": slug},
                timeout_s=INSTALL_TIMEOUT_S,
            )
        except RpcRefused as refused:
            _raise_for(str(refused), slug)
        folder = untrusted_json.text_of(result.get("targetDir"))
        skill = await self._installed(instance, folder)
        if skill is None:
            await self._make_it_look(instance, _bare(slug))
            skill = await self._installed(instance, folder)
        if env and skill is not None:
            await self._configure(instance, skill, {"env": dict(env)})
            skill = await self._installed(instance, folder)
        return _installation(result, skill, tuple(env) if skill is not None else ())

    async def change(self, instance: Instance, name: str, change: Mapping[str, Any]) -> None:
        """Merges settings (`enabled`, `apiKey`, `env`, `config`) into a skill's; null removes one.

        Raises SkillNotFound if the agent lacks the skill, and ConfigRefused if OpenClaw refuses
        the settings.
        """
        await self._configure(instance, await self.get(instance, name), change)

    async def _installed(self, instance: Instance, folder: str) -> Skill | None:
        """The skill in a folder. OpenClaw before 2026.9 lists a new one after a moment."""
        ends_s = time.monotonic() + LISTING_TIMEOUT_S
        while True:
            skills = await self.list_skills(instance)
            found = next((each for each in skills if each.folder == folder), None)
            if found is not None or time.monotonic() >= ends_s:
                return found
            await asyncio.sleep(LISTING_INTERVAL_S)

    async def _make_it_look(self, instance: Instance, key: str) -> None:
        """Enables a skill that is enabled anyway, unless its settings say whether it is.

        Until somebody has spoken with an agent since its boot, OpenClaw 2026.8 looks for new skills
        only if settings of skills change.
        """

        def enabled(config: Mapping[str, Any]) -> dict[str, Any] | None:
            entry = untrusted_json.object_at(config, "skills", "entries", key)
            return None if "enabled" in entry else {"skills": {"entries": {key: {"enabled": True}}}}

        await self._gateway(instance).revise_config(enabled)

    async def _configure(self, instance: Instance, skill: Skill, change: Mapping[str, Any]) -> None:
        patch = {"skills": {"entries": {skill.key: dict(change)}}}
        await self._gateway(instance).patch_config(patch)

    def _gateway(self, instance: Instance) -> Gateway:
        return self._gateway_of(instance.sandbox_id, instance.gateway_url)

    async def _check_clawhub(self, sandbox_id: SandboxId, slug: str) -> None:
        request = {"slug": _bare(slug), "timeoutMs": int(REACH_TIMEOUT_S * 1000)}
        answer = await self._clawhub_probe.ask(
            sandbox_id,
            request,
            timeout_s=PROGRAM_TIMEOUT_S,
            timeout_message="the sandbox did not report in time whether it reaches ClawHub",
        )
        url, error = (untrusted_json.message_of(answer.get(name)) for name in ("url", "error"))
        if error:
            raise ClawHubUnavailable(f"{url} cannot be reached: {error}")
        status = answer.get("status")
        if isinstance(status, int) and status >= 500:
            raise ClawHubUnavailable(f"{url} answered {status}")


def _skill(entry: Mapping[str, Any]) -> Skill:
    text = {name: untrusted_json.text_of(value) for name, value in entry.items()}
    missing = untrusted_json.object_of(entry.get("missing"))
    return Skill(
        name=text.get("name", ""),
        description=text.get("description", ""),
        source=text.get("source", ""),
        is_ready=entry.get("eligible") is True and not entry.get("blockedByAgentFilter"),
        path=text.get("filePath", ""),
        key=text.get("skillKey") or text.get("name", ""),
        folder=text.get("baseDir", ""),
        required_env=_names(entry.get("requirements"), "env"),
        missing_env=_names(missing, "env"),
        missing_programs=_names(missing, "bins") + _names(missing, "anyBins"),
        missing_settings=_names(missing, "config"),
        systems=_names(missing, "os"),
        primary_env=text.get("primaryEnv", ""),
        homepage=text.get("homepage", ""),
        is_disabled=entry.get("disabled") is True,
    )


def _names(lists: Any, kind: str) -> tuple[str, ...]:
    return untrusted_json.texts_of(untrusted_json.object_of(lists).get(kind))


def _bare(slug: str) -> str:
    """A slug without the name of its owner or registry."""
    return slug.rpartition("/")[2]


def _raise_for(reason: str, slug: str) -> NoReturn:
    if _UNKNOWN in reason:
        raise SkillNotFound(f"Skill {slug!r} not found on ClawHub.")
    if _INSTALLED in reason:
        raise SkillInstalled(slug)
    if any(each in reason for each in _UNAVAILABLE):
        raise ClawHubUnavailable(reason)
    raise SkillRefused(reason)


def _installation(
    result: Mapping[str, Any], skill: Skill | None, env_applied: tuple[str, ...]
) -> Installation:
    texts = [
        untrusted_json.text_of(result.get(part))
        for part in ("message", "stdout", "stderr", "warning")
    ]
    message = f"{texts[0] or 'Installed'}."
    if skill is None:
        message += " OpenClaw does not list it: its SKILL.md has no name or description."
    elif skill.missing_env:
        message += f" It needs {', '.join(skill.missing_env)} to be set before it is ready."
    elif skill.missing_programs:
        message += f" It needs {', '.join(skill.missing_programs)}, which the sandbox lacks."
    return Installation(
        skill=skill.name if skill is not None else untrusted_json.text_of(result.get("slug")),
        output="\n".join(filter(None, texts)),
        env_applied=env_applied,
        required_env=skill.required_env if skill is not None else (),
        missing_env=skill.missing_env if skill is not None else (),
        message=message,
    )
