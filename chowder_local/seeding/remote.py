"""Agents of a server of which only the published API is known: read, compared and changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.client.remote import RemoteClient
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.process import (
    ApiRefused,
    RemoteFailed,
    SettingsInvalid,
)
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import changed_paths, leaves
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.home import FileIndex, Home
from chowder_local.seeding.push import PUSH_DOES, is_memory, not_carried, note_pushed
from chowder_local.seeding.seen import SeenAgent, as_text
from chowder_local.seeding.target import (
    CurrentOrganization,
    SeedTarget,
    StoredOrganization,
    current_key,
    find_by_name,
)
from chowder_local.seeding.three_way import compare
from chowder_local.seeding.untrusted_names import LeftOut

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.client import Client
    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization, Document
    from chowder_local.seeding.plan import SeedStep
    from chowder_local.seeding.seen import Seen
    from chowder_local.seeding.target import CurrentKey

    Json = dict[str, Any]

TOPS = ("workspace", "skills")
"""The folders of a home that an agent and its owner write. The others are OpenClaw's own."""


def find_instance(client: Client, reference: str) -> Json:
    """The running instance with this id or name. Raises SettingsInvalid if there is none."""
    listed = client.instances()
    found = [each for each in listed if reference in (each["id"], each["name"])]
    if len(found) != 1:
        names = ", ".join(sorted(f"{each['name']} ({each['id']})" for each in listed)) or "none"
        which = "several instances" if found else "no instance"
        raise SettingsInvalid(
            f"{client.base_url} has {which} called {reference}. Name one of: {names}"
        )
    instance = found[0]
    if instance["status"] != "running":
        raise SettingsInvalid(
            f"{instance['name']} is {instance['status']} at {client.base_url}. Its files are read "
            "while it runs only: start it first."
        )
    return instance


class RemoteTarget(SeedTarget):
    """The organization of a key on another server: nothing there is started, stopped or signed up.

    Keys are found by their names.
    """

    may_delete = takes_homes = False
    ca_bundle: Path | None = None

    def current_state(
        self, desired: Iterable[DesiredOrganization]
    ) -> dict[str, CurrentOrganization]:
        (organization,) = desired
        name, key = organization.name, self._default_key
        client = self._clients.get(name) or self._connect(name, key)
        self._agents.clear()
        self.memory.organizations.setdefault(name, StoredOrganization(id=client.base_url))
        listed = client.instances()
        by_id = {each["id"]: each for each in listed}
        found = {
            each.name: by_id.get(each.name) or find_by_name(listed, each)
            for each in organization.instances
        }
        return {
            name: CurrentOrganization(
                instances={
                    each.name: self._instance(name, each, instance)
                    for each in organization.instances
                    if (instance := found[each.name]) is not None
                },
                keys=_keys_by_name(client, organization),
            )
        }

    def only_there(self, desired: DesiredOrganization) -> Iterator[str]:
        """The files of an agent that its declared home, a whole one, does not have."""
        for each in desired.instances:
            if each.home and self.may_delete and (desired.name, each.name) in self._ids:
                agent = self.running_agent(desired.name, each.name)
                declared = each.home_files()
                for path, _ in walk(agent.home, LeftOut(declared)):
                    if path not in declared:
                        yield f"{path} of {each.name}"

    def not_carried(self, desired: DesiredOrganization) -> Iterator[str]:
        """What a push cannot carry from declared homes, for which the API has no call."""
        for each in desired.instances:
            is_there = (desired.name, each.name) in self._ids
            home = self.running_agent(desired.name, each.name).home if is_there else None
            yield from not_carried(each, home)

    def note_pushed(
        self,
        desired: DesiredOrganization,
        before: CurrentOrganization,
        seen: Seen,
        taken: Iterable[SeedStep],
    ) -> None:
        """Notes where both sides are alike after these steps, or after a part of them.

        Raises SettingsInvalid if the file cannot be written.
        """
        base_url = self.client(desired.name).base_url
        for each in desired.instances:
            if (instance_id := self._ids.get((desired.name, each.name))) is not None:
                agent = self._agents.get((desired.name, each.name))
                written = agent.home.written if agent else {}
                current = before.instances.get(each.name)
                note_pushed(seen.agent(base_url, instance_id), each, current, written, taken)
        seen.write()

    def _client_of(self, key: str) -> RemoteClient:
        return RemoteClient(self._base_url, key, self.ca_bundle)

    def _start(self, client: Client, instance_id: str, name: str) -> None:
        raise SettingsInvalid(
            f"{name} ({instance_id}) is stopped at {client.base_url}. Its files are read while it "
            "runs only: start it first."
        )


def _keys_by_name(client: Client, desired: DesiredOrganization) -> dict[str, CurrentKey]:
    names = {each.name for each in desired.keys}
    # The newest one of a name is the last.
    listed = sorted(client.keys() if names else (), key=lambda each: str(each["created_at"]))
    return {
        each["name"]: current_key(client.key(each["id"]), each["expires_at"])
        for each in listed
        if each["is_active"] and each["name"] in names
    }


def published_part(
    document: Document, seed_file: Path, instance: str | None
) -> tuple[DesiredOrganization, list[str]]:
    """The part of a seed file that `push` sends to one organization, and what it leaves out.

    With `instance`, the only instance of the file goes to the one of that name or id. Raises
    SettingsInvalid if the file has several organizations, or then instances.
    """
    if len(document.organizations) != 1:
        raise SettingsInvalid(
            f"{seed_file} has several organizations, and a key is of one: write a file for each."
        )
    (organization,) = document.organizations
    left = [
        name for name in ("tier", "model_keys", "budget") if getattr(organization, name) or False
    ]
    instances = []
    for each in organization.instances:
        without: Json = {
            "sessions": [],
            "jobs": [],
            "budget": None,
            "breakpoint": None,
            "approvals": None,
        }
        left += [f"{name} of {each.name}" for name in without if getattr(each, name)]
        instances.append(each.model_copy(update=without))
    keys = organization.keys
    if instance is not None:
        if len(instances) != 1:
            raise SettingsInvalid(
                f"{seed_file} has {len(instances)} instances, so none of them is {instance}. Leave "
                "the name out: each goes to the instance of its own name."
            )
        instances = [instances[0].model_copy(update={"name": instance})]
        keys = [each.model_copy(update={"instances": [instance]}) for each in keys]
    update: Json = {
        "tier": None,
        "model_keys": {},
        "budget": None,
        "instances": instances,
        "keys": keys,
    }
    return organization.model_copy(update=update), left


@dataclass(frozen=True)
class AgentState:
    """What can be compared of an agent: the digests of its files by path, and the rest by name."""

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    named: Collection[str] = ()
    """Files that a seed file names one by one."""


def scope(desired: DesiredInstance) -> list[str] | None:
    """The files that are compared with a declared agent's: those named, or all for a whole home."""
    return None if desired.home else list(desired.home_files())


def desired_agent(desired: DesiredInstance) -> AgentState:
    """The state that a seed file declares of an agent."""
    files = {path: digest(content) for path, (content, _) in desired.home_files().items()}
    return AgentState(
        _settings(desired.model_provider, desired.openclaw_config), files, desired.files
    )


def current_agent(
    client: Client,
    instance: Json,
    index: FileIndex,
    only: Iterable[str] | None = None,
    taken: Iterable[str] = (),
) -> AgentState:
    """The state of a running agent; of its files those that `pull` copies, or `only` those.

    Files that are `taken` are among them although a program may obey them.
    """
    home = Home(client, instance["id"], index)
    if only is None:
        only = [path for path, each in walk(home, LeftOut(taken)) if is_file(each)]
    found = home.digests(only)
    for path, each in (found | home.unlisted).items():
        if isinstance(each, ApiRefused):
            # A state without it would differ where nothing does.
            raise SettingsInvalid(f"{path} of {instance['name']} cannot be read: {each}")
    config = portable_config(instance)[0]
    return AgentState(
        _settings(instance["model_provider"], config),
        {path: each for path, each in found.items() if isinstance(each, str)},
    )


def differences(here: AgentState, there: AgentState, seen: SeenAgent | None) -> Iterator[str]:
    """A line for each difference, setting by setting and then file by file.

    With what was `seen` there at the last pull or push, it says what a push does about it.
    """
    base = seen or SeenAgent()
    settings = {f"openclaw_config {name}": each for name, each in base.settings.items()}
    for kind, former, ours, theirs in (
        ("", as_text(settings), as_text(here.settings), as_text(there.settings)),
        ("file ", base.files, here.files, there.files),
    ):
        for name, change in sorted(compare(former, ours, theirs).items()):
            does = ""
            if seen is not None and name not in ours and name in theirs:
                does = "; push leaves it"
            elif seen is not None and is_memory(name) and name not in here.named:
                does = "; push leaves it without --memory"
            elif seen is not None:
                does = f"; {change}, push {PUSH_DOES[change]}"
            if name not in theirs:
                value = "" if kind else f", {ours[name]}"
                how = "deleted there" if name in former else "only here"
                yield f"- {kind}{name}: {how}{value}{does}"
            elif name not in ours:
                value = "" if kind else f", {theirs[name]}"
                how = "deleted here" if name in former else "only there"
                yield f"+ {kind}{name}: {how}{value}{does}"
            else:
                values = "differs" if kind else f"{ours[name]} here, {theirs[name]} there"
                yield f"~ {kind}{name}: {values}{does}"


def _settings(provider: str, config: Mapping[str, Any]) -> dict[str, Any]:
    shown = leaves(agent_config.portable(config))
    return {
        "model_provider": str(provider),
        **{f"openclaw_config {'.'.join(path)}": value for path, value in shown},
    }


def portable_config(instance: Json) -> tuple[dict[str, Any], list[str]]:
    """An instance's settings without secrets and channels, and the paths of those it lacks."""
    try:
        config = agent_config.nested(instance["openclaw_config"] or {})
    except ConfigRefused as refused:
        raise RemoteFailed(
            f"The configuration of {instance['name']} is unusable: {refused}"
        ) from None
    kept = agent_config.portable(config)
    paths = set(changed_paths(kept))
    return kept, [each for each in changed_paths(config) if each not in paths]


def walk(home: Home, is_left_out: LeftOut) -> Iterator[tuple[str, Json]]:
    """The files that `pull` copies, with their entries. Raises RemoteFailed for too many."""
    try:
        yield from home.walk(*TOPS, is_left_out=is_left_out)
    except ValueError as refused:
        raise RemoteFailed(f"The agent's files are left: {refused}.") from None


def is_file(entry: Json) -> bool:
    """Whether an entry is neither a link nor a device."""
    return str(entry["permissions"]).startswith("-")
