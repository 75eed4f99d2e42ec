"""Agents of a server of which only the published API is known: read, compared and changed."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count, repeat
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

import yaml

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.client.remote import RemoteClient
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.process import (
    ApiRefused,
    RemoteFailed,
    ServerSilent,
    SettingsInvalid,
)
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import changed_paths, leaves
from chowder_local.seeding.desired_state import digest, may_be_copied
from chowder_local.seeding.home import AT_ONCE, FileIndex, Home
from chowder_local.seeding.target import (
    CurrentOrganization,
    SeedTarget,
    StoredOrganization,
    current_key,
    find_by_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from chowder_local.client import Client
    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization, Document
    from chowder_local.seeding.target import CurrentKey

    Json = dict[str, Any]

TOPS = ("workspace", "skills")
"""The folders of a home that an agent and its owner write. The others are OpenClaw's own."""
MAX_BYTES = 8 * 1024**3
FREE_BYTES = 1024**3
"""What stays free on the disk."""
ADDED = {"openclaw-managed", "openclaw-workspace"}
"""Sources of skills that somebody has added to an agent."""
KEPT_EVERY = 100
"""After how many files the index is written."""
SEED_FILE, HOME_FOLDER = "seed.yaml", "home"
NOT_SHOWN = {
    "conversations": "it begins without memory of any; send what it must know as messages of the "
    "seed file (`sessions`)",
    "scheduled jobs": "declare them in the seed file (`jobs`)",
}
"""What no call of the published API has, and what to do about it."""


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
                for path, _ in walk(agent.home):
                    if path not in declared:
                        yield f"{path} of {each.name}"

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


def scope(desired: DesiredInstance) -> list[str] | None:
    """The files that are compared with a declared agent's: those named, or all for a whole home."""
    return None if desired.home else list(desired.home_files())


def desired_agent(desired: DesiredInstance) -> AgentState:
    """The state that a seed file declares of an agent."""
    files = {path: digest(content) for path, (content, _) in desired.home_files().items()}
    return AgentState(_settings(desired.model_provider, desired.openclaw_config), files)


def current_agent(
    client: Client, instance: Json, index: FileIndex, only: Iterable[str] | None = None
) -> AgentState:
    """The state of a running agent; of its files those in TOPS, or `only` those."""
    home = Home(client, instance["id"], index)
    paths = [path for path, each in walk(home) if _is_file(each)] if only is None else only
    found = home.digests(paths)
    for path, each in (found | home.unlisted).items():
        if isinstance(each, ApiRefused):
            # A state without it would differ where nothing does.
            raise SettingsInvalid(f"{path} of {instance['name']} cannot be read: {each}")
    config = portable_config(instance)[0]
    return AgentState(
        _settings(instance["model_provider"], config),
        {path: each for path, each in found.items() if isinstance(each, str)},
    )


def differences(here: AgentState, there: AgentState) -> Iterator[str]:
    """A line for each difference, setting by setting and then file by file."""
    for kind, ours, theirs in (
        ("", here.settings, there.settings),
        ("file ", here.files, there.files),
    ):
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in theirs:
                yield f"- {kind}{name}: only here{_value_text(kind, ours[name])}"
            elif name not in ours:
                yield f"+ {kind}{name}: only there{_value_text(kind, theirs[name])}"
            elif json.dumps(ours[name], sort_keys=True) != json.dumps(theirs[name], sort_keys=True):
                change = f" {json.dumps(ours[name])} here, {json.dumps(theirs[name])} there"
                yield f"~ {kind}{name}:{' differs' if kind else change}"


def _value_text(kind: str, value: Any) -> str:
    return "" if kind else f", {json.dumps(value)}"


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


def walk(home: Home) -> Iterator[tuple[str, Json]]:
    """The files that `pull` copies, with their entries. Raises RemoteFailed for too many."""
    try:
        for path, entry in home.walk(*TOPS):
            if may_be_copied(path):
                yield path, entry
    except ValueError as refused:
        raise RemoteFailed(f"The agent's files are left: {refused}.") from None


def _is_file(entry: Json) -> bool:
    """Whether an entry is neither a link nor a device."""
    return str(entry["permissions"]).startswith("-")


@dataclass(eq=False, repr=False)
class Pull:
    """Copies a running agent into a folder that can be committed, and says what it cannot copy."""

    client: Client
    instance: Json
    name: str
    """The name that it has in the seed file."""
    folder: Path
    index: FileIndex
    report: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    """What is not in the folder, each with what to do."""

    def __post_init__(self) -> None:
        self._home = Home(self.client, self.instance["id"], self.index)
        self._files: dict[str, Json] = {}
        self._here: dict[str, str | None] = {}
        self._missing: list[str] = []
        self._room, self._lock = 0, Lock()

    def plan(self) -> list[str]:
        """Lists the agent's files. Returns the paths of those here that would lose a change.

        Raises RemoteFailed if they are too many, or too large for the disk.
        """
        self.report("Listing its files")
        for path, entry in walk(self._home):
            if _is_file(entry):
                self._files[path] = entry
            else:
                self.notes.append(f"{path}: it is no regular file. Copy what it leads to.")
        self.notes += [
            f"{path}: it could not be listed ({refused}). Pull again."
            for path, refused in self._home.unlisted.items()
        ]
        self.notes += [
            f"{path!r}: its name cannot be copied. Have the agent rename it."
            for path in sorted(self._home.nameless)
        ]
        home = self.folder / HOME_FOLDER
        self._here = {path: _digest_here(home / path) for path in self._files}
        self._seed_text = self._render_seed()
        changed = self._changed_here()
        self._missing = [path for path in self._files if not self._is_here(path)]
        self._check_room()
        seed_file = self.folder / SEED_FILE
        if seed_file.exists() and not self._has_same_seed(seed_file):
            changed.append(SEED_FILE)
        return changed

    def take(self) -> None:
        """Copies what is not here yet, removes what an earlier pull copied and is gone there."""
        home = self.folder / HOME_FOLDER
        home.mkdir(parents=True, exist_ok=True)
        gone = [
            path
            for path, (_, _, known) in self.index.rows(self.instance["id"]).items()
            if path not in self._files
            and _digest_here(home / path) == known
            # Nobody knows whether these are gone.
            and not path.startswith(tuple(f"{each}/" for each in self._home.unlisted))
        ]
        for path in gone:
            (home / path).unlink()
            del self.index.rows(self.instance["id"])[path]
        missing = self._missing
        try:
            # Beside the home, because what a killed pull leaves there would be pushed.
            with (
                TemporaryDirectory(prefix=".pull-", dir=self.folder) as parts,
                ThreadPoolExecutor(AT_ONCE) as pool,
            ):
                copies = pool.map(self._copy, missing, repeat(parts), count())
                for number, path in enumerate(missing, 1):
                    next(copies)
                    if number % KEPT_EVERY == 0:
                        # For the next pull, if this one is killed.
                        self.index.write()
                    self.report(f"[{number}/{len(missing)}] {path}")
        finally:
            self.index.write()
        seed_file = self.folder / SEED_FILE
        if not self._has_same_seed(seed_file):
            seed_file.write_text(self._seed_text, encoding="utf-8")

    def _copy(self, path: str, parts: str, number: int) -> None:
        part, target = os.path.join(parts, str(number)), self.folder / HOME_FOLDER / path
        try:
            with open(part, "w+b") as file:
                self._home.read(path, file)
                self._take_room(file.tell())
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(self.folder.resolve()):
                raise OSError(None, "a folder above it is a link that leads elsewhere")
            os.chmod(part, 0o755 if "x" in str(self._files[path]["permissions"]) else 0o644)
            os.replace(part, target)
        except (ApiRefused, ServerSilent, OSError) as failed:
            reason = failed.strerror if isinstance(failed, OSError) else failed
            self.notes.append(f"{path}: it could not be copied ({reason}). Pull again.")

    def _check_room(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._room = min(MAX_BYTES, shutil.disk_usage(self.folder).free - FREE_BYTES)
        size = sum(self._files[path]["size"] for path in self._missing)
        if size > self._room:
            raise RemoteFailed(
                f"The agent's files take {size / 1e6:,.0f} MB, and {max(0, self._room) / 1e6:,.0f} "
                "MB may be used here. Free space, or have the agent remove some."
            )

    def _take_room(self, size: int) -> None:
        with self._lock:
            self._room -= size
            if self._room < 0:
                raise RemoteFailed("Its files have grown, and the disk has no room for them.")

    def _row_digest(self, path: str) -> str | None:
        row = self.index.rows(self.instance["id"]).get(path)
        return None if row is None else str(row[2])

    def _is_here(self, path: str) -> bool:
        return self._here[path] is not None and self._home.known_digest(path) == self._here[path]

    def _changed_here(self) -> list[str]:
        """The files that are here and there, and that a pull would overwrite with other content."""
        here = self._here
        suspects = [
            path for path, each in here.items() if each not in {None, self._row_digest(path)}
        ]
        there = self._home.digests(suspects)
        return [path for path in suspects if there.get(path) != here[path]]

    def _render_seed(self) -> str:
        config, hidden = portable_config(self.instance)
        self._note_settings(hidden)
        try:
            provider = str(ModelProvider(self.instance["model_provider"]))
        except ValueError:
            raise RemoteFailed(
                f"{self.instance['name']} has the model provider "
                f"{self.instance['model_provider']!r}, which is unknown here."
            ) from None
        instance = {"name": self.name, "model_provider": provider, "openclaw_config": config}
        declared = {"name": DEFAULT, "instances": [{**instance, "home": HOME_FOLDER}]}
        head = f"# Written by `chowder-local pull` from {self.client.base_url}.\n"
        return head + yaml.safe_dump({"organizations": [declared]}, sort_keys=False)

    def _note_settings(self, hidden: list[str]) -> None:
        if self.instance["openclaw_config"] is None:
            # It has none, or a list does not show it to this key.
            try:
                self.client.instance(self.instance["id"])
            except ApiRefused as refused:
                self.notes.append(f"its configuration: {refused}. Use a key that may `read` it.")
        self.notes += [
            f"setting {path}: it may be a secret. Set it with: chowder-local instances configure "
            f"{self.name} {path}=VALUE"
            for path in hidden
            if not path.startswith("channels.")
        ]

    def note_rest(self) -> None:
        """Notes skills and channels that are not files, and what no call shows."""
        for each in self._allowed("skills", self.client.skills):
            name = each["name"]
            is_copied = not self._files.keys().isdisjoint(
                {f"workspace/skills/{name}/SKILL.md", f"skills/{name}/SKILL.md"}
            )
            # The other sources of OpenClaw's are what comes with it.
            is_own = each["source"].startswith("openclaw-") and each["source"] not in ADDED
            if not is_copied and not is_own:
                self.notes.append(
                    f"skill {name}, of {each['source']}: install it with: chowder-local skills "
                    f"install {self.name} {name}"
                )
        for each in self._allowed("channels", self.client.channels):
            if each["enabled"]:
                self.notes.append(
                    f"channel {each['channel']}: no call shows its credentials. Connect an account "
                    f"for tests with: chowder-local channels connect {self.name} {each['channel']}"
                )
        if any("x" in str(each.get("permissions")) for each in self._files.values()):
            self.notes.append(
                "permissions to execute files: no upload sets them. Have the agent run `chmod +x`."
            )
        self.notes += [
            f"{what}: no call shows them; {remedy}." for what, remedy in NOT_SHOWN.items()
        ]

    def _allowed(self, what: str, show: Callable[[str], list[Json]]) -> list[Json]:
        try:
            return show(self.instance["id"])
        except ApiRefused as refused:
            permission = {"skills": "configure", "channels": "channels"}[what]
            lacks = f"the key lacks the permission `{permission}`"
            reason = lacks if refused.status == HTTPStatus.FORBIDDEN else str(refused)
            self.notes.append(f"{what}: they could not be listed ({reason}). Pull again.")
            return []

    def _has_same_seed(self, seed_file: Path) -> bool:
        """Whether a seed file has the agent's settings; people add to it what they like."""
        with suppress(OSError, ValueError, yaml.YAMLError, TypeError, KeyError):
            ours, theirs = (
                yaml.safe_load(text)["organizations"][0]["instances"][0]
                for text in (self._seed_text, seed_file.read_text("utf-8"))
            )
            return all(theirs.get(name) == value for name, value in ours.items())
        return False


def _digest_here(file: Path) -> str | None:
    return digest(file) if file.is_file() and not file.is_symlink() else None
