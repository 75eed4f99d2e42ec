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
from chowder_local.core.errors.process import (
    ApiRefused,
    RemoteFailed,
    ServerSilent,
    SettingsInvalid,
)
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.home import AT_ONCE, FileIndex, Home
from chowder_local.seeding.remote import is_file, portable_config, walk
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
        self._files: dict[str, Json] = {}
        self._here: dict[str, str | None] = {}
        self._missing: list[str] = []
        self._room, self._lock = 0, Lock()

    def plan(self) -> list[str]:
        """Lists the agent's files. Returns the paths of those here that would lose a change.

        Raises RemoteFailed if they are too many, or too large for the disk, and SettingsInvalid if
        one of `taken` may not be.
        """
        if refused := [path for path in self.taken if is_git_folder(path)]:
            raise SettingsInvalid(
                f"{refused[0]} is never copied: git would run commands that are written there."
            )
        self.report("Listing its files")
        for path, entry in walk(self._home, LeftOut(self.taken)):
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

    def _note_left_out(self) -> None:
        left = sorted(self._home.left_out)
        for path in left[:MAX_NAMED]:
            how = "" if is_git_folder(path) else f" Copy it nevertheless with: --take {path!r}"
            self.notes.append(
                f"{path}: git, an editor or a shell may obey it as soon as you enter or open its "
                f"folder.{how}"
            )
        if len(left) > MAX_NAMED:
            self.notes.append(f"{len(left) - MAX_NAMED:,} more files and folders of such names")
        if empty := sorted(self._home.empty):
            named = ", ".join(empty[:MAX_NAMED])
            self.notes.append(f"empty folders ({len(empty):,}): git keeps none. They are {named}.")

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
