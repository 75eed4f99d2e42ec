"""Plans the steps from the current to the desired state of a server (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.models import DEFAULT_MODELS
from chowder_local.seeding import steps
from chowder_local.seeding.current_state import CurrentInstance, CurrentKey, CurrentOrganization
from chowder_local.seeding.desired_state import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chowder_local.seeding.desired_state import (
        DesiredInstance,
        DesiredKey,
        DesiredOrganization,
        DesiredSession,
    )
    from chowder_local.seeding.source_locations import SourceLocations
    from chowder_local.seeding.steps import Step

    Removal = Callable[[str, str], str]


def plan(
    desired: Sequence[DesiredOrganization],
    current: Mapping[str, CurrentOrganization],
    locations: SourceLocations,
    removal: Removal,
) -> list[Step]:
    """The steps in order: agents are created early, and boot during the other steps.

    `removal` returns the command that removes an agent of an organization, by its id. Raises
    SettingsInvalid if the desired state would need something to be destroyed.
    """
    planner = _Planner(locations, removal)
    unordered = [
        step for each in desired for step in planner.organization(each, current.get(each.name))
    ]
    return sorted(unordered, key=lambda step: PHASES.index(type(step)))


PHASES = (
    steps.SignUp,
    steps.Move,
    steps.SetModelKeys,
    steps.Create,
    steps.Configure,
    steps.WriteFile,
    steps.Send,
    steps.MakeKey,
)


@dataclass(frozen=True)
class _Planner:
    locations: SourceLocations
    removal: Removal

    def organization(
        self, desired: DesiredOrganization, existing: CurrentOrganization | None
    ) -> Iterator[Step]:
        name, location = desired.name, desired.location
        current = existing or CurrentOrganization()
        if existing is None:
            yield steps.SignUp(name, location, "sign up")
        if desired.tier is not None and desired.tier is not current.tier:
            where, tier = (*location, "tier"), desired.tier
            yield steps.Move(name, where, f"move to {tier}", tier)
        changed_keys = {
            provider: key
            for provider, key in desired.model_keys.items()
            if current.model_keys.get(provider) != digest(key)
        }
        if changed_keys:
            description = f"set the model keys of {', '.join(changed_keys)}"
            yield steps.SetModelKeys(name, (*location, "model_keys"), description, changed_keys)
        for instance in desired.instances:
            yield from self._instance(name, instance, current.instances.get(instance.name))
        ids = {instance_name: each.id for instance_name, each in current.instances.items()}
        for key in desired.keys:
            former = current.keys.get(key.name)
            if former is None or not _is_as_desired(former, key, ids):
                verb, former_id = ("renew", former.id) if former else ("make", None)
                description = f"{verb} the key {key.name}"
                yield steps.MakeKey(name, key.location, description, key, former_id)

    def _instance(
        self, organization: str, desired: DesiredInstance, current: CurrentInstance | None
    ) -> Iterator[Step]:
        location = desired.location
        if current is None:
            yield steps.Create(organization, location, f"create {desired.name}", desired)
        elif current.model_provider is not desired.model_provider:
            self.locations.fail(
                (*location, "model_provider"),
                f"{desired.name} exists with {current.model_provider}, which cannot be changed. "
                "Write that provider, use another name, or remove the agent with: "
                f"{self.removal(organization, current.id)}",
            )
        elif not contains(current.openclaw_config, desired.openclaw_config):
            where, description = (*location, "openclaw_config"), f"configure {desired.name}"
            yield steps.Configure(organization, where, description, desired)
        digests = current.files if current else {}
        for path, (content, file_location) in desired.home_files().items():
            if digests.get(path) != digest(content):
                description = f"write {path} of {desired.name}"
                yield steps.WriteFile(
                    organization, file_location, description, desired.name, path, content
                )
        for session in desired.sessions:
            yield from self._unsent(organization, desired, session, current)

    def _unsent(
        self,
        organization: str,
        instance: DesiredInstance,
        session: DesiredSession,
        current: CurrentInstance | None,
    ) -> Iterator[Step]:
        """The steps for messages of a session that were not sent yet."""
        location = (*session.location, "messages")
        sent = current.sent.get(session.name, ()) if current else ()
        if current is not None and sent != session.digests[: len(sent)]:
            self.locations.fail(
                location,
                f"An earlier seeding sent other messages to this session of {instance.name}. Add "
                "messages at the end only, use another session name, or remove the agent with: "
                f"{self.removal(organization, current.id)}",
            )
        model = session.model or DEFAULT_MODELS[instance.model_provider]
        conversation = session.name or "the main conversation"
        for index in range(len(sent), len(session.messages)):
            yield steps.Send(
                organization,
                (*location, index),
                f"send message {index + 1} of {len(session.messages)} to {conversation} of "
                f"{instance.name}",
                instance.name,
                session.name,
                model,
                session.messages[index],
                session.digests[:index],
            )


def contains(current: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether a configuration has all desired values; it may have more."""
    missing = object()
    for name, value in desired.items():
        current_value = current.get(name, missing)
        if isinstance(value, dict) and isinstance(current_value, dict):
            if not contains(current_value, value):
                return False
        # In Python 1 equals True, but in JSON it does not.
        elif current_value != value or type(current_value) is not type(value):
            return False
    return True


def _is_as_desired(current: CurrentKey, desired: DesiredKey, ids: Mapping[str, str]) -> bool:
    permissions = frozenset(desired.permissions)
    grants = {ids.get(name, ""): permissions for name in desired.instances}
    return current.grants == grants and current.expires_at == desired.expires_at
