"""Copies an agent of another server into a folder that can be committed."""

from __future__ import annotations

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
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.process import (
    ApiRefused,
    RemoteFailed,
    ServerSilent,
    SettingsInvalid,
)
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.edits import leaves
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.home import AT_ONCE, FileIndex, Home, is_executable
from chowder_local.seeding.remote import is_file, portable_config, walk
from chowder_local.seeding.seen import Seen, as_text, nest, settings_of
from chowder_local.seeding.three_way import Change, compare
from chowder_local.seeding.untrusted_names import LeftOut, is_git_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from chowder_local.client import Client

    Json = dict[str, Any]

MAX_BYTES = 8 * 1024**3
FREE_BYTES = 1024**3
"""What stays free on the disk."""
ADDED = {"openclaw-managed", "openclaw-workspace"}
"""Sources of skills that somebody has added to an agent."""
KEPT_EVERY = 100
"""After how many files the index is written."""
MAX_NAMED = 20
"""How many of the files that are left out are named."""
SEED_FILE, HOME_FOLDER = "seed.yaml", "home"
NOT_SHOWN = {
    "conversations": "it begins without memory of any; send what it must know as messages of the "
    "seed file (`sessions`)",
    "scheduled jobs": "declare them in the seed file (`jobs`)",
}
"""What no call of the published API has, and what to do about it."""


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
    taken: Iterable[str] = ()
    """Files and folders to copy although programs may obey them."""
    notes: list[str] = field(default_factory=list)
    """What is not in the folder, each with what to do."""

    def __post_init__(self) -> None:
        self._home = Home(self.client, self.instance["id"], self.index)
        self._seen_file = Seen.beside(self.folder / SEED_FILE)
        self._seen = self._seen_file.agent(self.client.base_url, self.instance["id"])
        self._files: dict[str, Json] = {}
        self._there: dict[str, str | None] = {}
        """The digests of files that are alike, or that a conflict is about; None: gone there."""
        self._missing: list[str] = []
        self._gone: list[str] = []
        self._conflicts: list[str] = []
        self._room, self._lock = 0, Lock()
        self._changes: dict[str, Change] = {}
        """Of settings, by dotted path."""
        self._shows_settings = True
        self._theirs: Json = {}
        """The agent's settings, without secrets and channels."""
        self._declared: Json = {}
        """What the seed file must say of the agent, besides the settings."""
        self._document: Json | None = None
        self._ours: Json | None = None
        self.kept: list[str] = []
        """What was changed only here."""

    def plan(self) -> list[str]:
        """Compares the agent with the folder. Returns what both have changed since the last pull.

        Raises RemoteFailed if its files are too many, or too large for the disk, and
        SettingsInvalid if one of `taken` may not be.
        """
        if refused := [path for path in self.taken if is_git_folder(path)]:
            raise SettingsInvalid(
                f"{refused[0]} is never copied: git would run commands that are written there."
            )
        self.report("Listing its files")
        # What was taken once is taken again.
        for path, entry in walk(self._home, LeftOut([*self.taken, *self._seen.files])):
            if is_file(entry):
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
        self._note_left_out()
        self._compare_files()
        self._check_room()
        return self._conflicts + self._compare_settings()

    def _compare_files(self) -> None:
        base, home = self._seen.files, self.folder / HOME_FOLDER
        unlisted = tuple(f"{each}/" for each in self._home.unlisted)
        paths = [path for path in {**self._files, **base} if not path.startswith(unlisted)]
        here = {path: each for path in paths if (each := _digest_here(home / path)) is not None}
        changed = [path for path in paths if here.get(path) != base.get(path)]
        there: dict[str, str] = {}
        known = self._home.digests(each for each in changed if each in self._files)
        for path, found in known.items():
            if isinstance(found, ApiRefused):
                self._note_failed(path, found)
            else:
                there[path] = found
        failed = {path for path in changed if path in self._files and path not in there}
        changes = compare(base, here, there, [path for path in changed if path not in failed])
        self.kept = [path for path, change in changes.items() if change is Change.HERE]
        self._conflicts = [path for path, change in changes.items() if change is Change.BOTH]
        self._there = {path: there.get(path) for path in changed if path not in failed}
        for path in set(paths).difference(changed):
            if path not in self._files:
                self._gone.append(path)
            elif here.get(path) is None or self._home.known_digest(path) != here[path]:
                self._missing.append(path)

    def _note_left_out(self) -> None:
        left = sorted(self._home.left_out)
        for path in left[:MAX_NAMED]:
            why = "git, an editor or a shell may obey it as soon as you enter or open its folder."
            how = f"Copy it nevertheless with: --take {path!r}"
            if os.path.lexists(self.folder / HOME_FOLDER / path):
                how = "The one that is here stays: remove it unless it is your own."
            elif is_git_folder(path):
                # OpenClaw makes one in each workspace.
                why, how = "git runs commands that are written there.", "It is never copied."
            self.notes.append(f"{path}: {why} {how}")
        if len(left) > MAX_NAMED:
            self.notes.append(f"{len(left) - MAX_NAMED:,} more files and folders of such names")
        if empty := sorted(self._home.empty):
            named = ", ".join(empty[:MAX_NAMED])
            self.notes.append(f"empty folders ({len(empty):,}): git keeps none. They are {named}.")

    def take(self, *, keeps_ours: bool) -> None:
        """Copies and removes here what has changed there, and notes what was seen there.

        With `keeps_ours`, conflicts stay as they are here.
        """
        conflicts = [] if keeps_ours else self._conflicts
        missing = sorted({*self._missing, *(each for each in conflicts if each in self._files)})
        for path, digest_there in self._there.items():
            if digest_there is None:
                self._seen.files.pop(path, None)
            elif path not in conflicts:
                self._seen.files[path] = digest_there
        for path in [*self._gone, *(each for each in conflicts if each not in self._files)]:
            self._remove(path)
            self._seen.files.pop(path, None)
        try:
            (self.folder / HOME_FOLDER).mkdir(parents=True, exist_ok=True)
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
            self._seen_file.write()
        self._set_modes()
        self._write_seed(keeps_ours=keeps_ours)
        self._seen_file.write()

    def _remove(self, path: str) -> None:
        file = self.folder / HOME_FOLDER / path
        if _digest_here(file) is not None and self._is_inside(file):
            file.unlink()

    def _is_inside(self, file: Path) -> bool:
        return file.parent.resolve().is_relative_to(self.folder.resolve())

    def _set_modes(self) -> None:
        """Makes files executable here that became it there, and the other way round."""
        was = self._seen.executable
        for path in self._files.keys() & self._seen.files:
            file = self.folder / HOME_FOLDER / path
            if _digest_here(file) is None or not self._is_inside(file):
                continue
            here, there = is_executable(file), self._is_executable(path)
            if here is (path in was) and here is not there:
                file.chmod(0o755 if there else 0o644)
        self._seen.executable = {path for path in self._files if self._is_executable(path)}

    def _is_executable(self, path: str) -> bool:
        return "x" in str(self._files[path]["permissions"])

    def _copy(self, path: str, parts: str, number: int) -> None:
        part, target = os.path.join(parts, str(number)), self.folder / HOME_FOLDER / path
        try:
            with open(part, "w+b") as file:
                content_digest = self._home.read(path, file)
                self._take_room(file.tell())
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_inside(target):
                raise OSError(None, "a folder above it is a link that leads elsewhere")
            if content_digest != _digest_here(target):
                os.chmod(part, 0o755 if self._is_executable(path) else 0o644)
                os.replace(part, target)
            self._seen.files[path] = content_digest
        except (ApiRefused, ServerSilent, OSError) as failed:
            self._note_failed(path, failed)

    def _note_failed(self, path: str, failed: Exception) -> None:
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

    def _compare_settings(self) -> list[str]:
        """Returns the settings that both sides have changed."""
        self._theirs, hidden = portable_config(self.instance)
        self._note_settings(hidden)
        try:
            provider = str(ModelProvider(self.instance["model_provider"]))
        except ValueError:
            raise RemoteFailed(
                f"{self.instance['name']} has the model provider "
                f"{self.instance['model_provider']!r}, which is unknown here."
            ) from None
        self._declared = {"name": self.name, "model_provider": provider, "home": HOME_FOLDER}
        self._document, self._ours = self._read_seed()
        if self._ours is None:
            return [SEED_FILE] if self._document is None else []
        ours = agent_config.nested(self._ours.get("openclaw_config") or {})
        base, theirs = self._seen.settings, settings_of(self._theirs)
        self._changes = (
            compare(as_text(base), as_text(settings_of(ours)), as_text(theirs))
            if self._shows_settings
            else {}
        )
        self.kept += [f"setting {name}" for name in self._of_changes(Change.HERE)]
        is_other = any(self._ours.get(name) != each for name, each in self._declared.items())
        changed = [f"setting {name}" for name in self._of_changes(Change.BOTH)]
        return changed + [SEED_FILE] * is_other

    def _of_changes(self, *changes: Change) -> list[str]:
        return sorted(name for name, change in self._changes.items() if change in changes)

    def _read_seed(self) -> tuple[Json | None, Json | None]:
        """The seed file, {} if there is none, None if it is unusable; and the agent in it."""
        file = self.folder / SEED_FILE
        if not file.exists():
            return {}, None
        with suppress(OSError, ValueError, yaml.YAMLError, TypeError, KeyError, ConfigRefused):
            document = yaml.safe_load(file.read_text("utf-8"))
            listed = [each for one in document["organizations"] for each in one["instances"]]
            named = [each for each in listed if each["name"] == self.name] or listed
            agent_config.nested(named[0].get("openclaw_config") or {})
            return document, named[0]
        return None, None

    def _write_seed(self, *, keeps_ours: bool) -> None:
        """Writes the seed file if the agent's settings changed there; what people add stays."""
        declared: Json = {**self._declared, "openclaw_config": self._theirs}
        document: Json = {"organizations": [{"name": DEFAULT, "instances": [declared]}]}
        if self._document is None and keeps_ours:
            return
        if self._shows_settings:
            self._seen.settings = settings_of(self._theirs)
        if self._document and self._ours is not None:
            document, declared = self._document, {} if keeps_ours else {**self._declared}
            taken = {Change.THERE} if keeps_ours else {Change.THERE, Change.BOTH}
            if names := set(self._of_changes(*taken)):
                ours = agent_config.nested(self._ours.get("openclaw_config") or {})
                values = {path: each for path, each in leaves(ours) if ".".join(path) not in names}
                for path, value in leaves(self._theirs):
                    if ".".join(path) in names:
                        values[path] = value
                declared["openclaw_config"] = nest(values)
            if all(self._ours.get(name) == each for name, each in declared.items()):
                return
            self._ours.update(declared)
        head = f"# Written by `chowder-local pull` from {self.client.base_url}.\n"
        text = head + yaml.safe_dump(document, sort_keys=False)
        (self.folder / SEED_FILE).write_text(text, encoding="utf-8")

    def _note_settings(self, hidden: list[str]) -> None:
        if self.instance["openclaw_config"] is None:
            # It has none, or a list does not show it to this key.
            try:
                self.client.instance(self.instance["id"])
            except ApiRefused as refused:
                self._shows_settings = False
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


def _digest_here(file: Path) -> str | None:
    return digest(file) if file.is_file() and not file.is_symlink() else None
