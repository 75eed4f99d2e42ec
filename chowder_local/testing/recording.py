"""Recordings of single tests, in folders beside them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import ServerSilent, SettingsInvalid
from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.testing.live import LiveInstance

END_TIMEOUT_S = 10.0
POLL_S = 0.05
LISTED_CALLS = 1_000
REAL = "provider"
"""The source of a call that a model of a provider has answered."""


class Replay:
    """Answers instances' model calls from a folder, until `end`."""

    def __init__(self, folder: Path, command: str) -> None:
        """`command` makes the recording. Raises SettingsInvalid if there is none."""
        entries = folders.read(folder, f"{command}, with a model key in the environment")
        self._entries = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
        self._instances: list[LiveInstance] = []

    def begin(self, instance: LiveInstance) -> None:
        instance.client.replay(instance.id, self._entries)
        self._instances.append(instance)

    def end(self) -> None:
        """Has the models themselves answer again."""
        for instance in self._instances:
            if instance.is_there:
                instance.client.end_replay(instance.id)


class NewRecording:
    """Records what instances ask real models, in place of a folder's recording."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: list[tuple[LiveInstance, str | None]] = []

    def begin(self, instance: LiveInstance) -> None:
        """Records the instance's calls from now on."""
        before = instance.client.exchanges(instance.id, limit=1)
        self._begun.append((instance, before[0]["id"] if before else None))

    def check(self) -> None:
        """Raises SettingsInvalid unless real models have answered."""
        calls = [
            call
            for instance, last_id in self._present()
            for call in _calls_after(instance, last_id)
        ]
        kept = f"What is in {self._folder} stays as it was."
        if others := sorted({call["provider"] for call in calls if call["source"] != REAL}):
            keys = ", ".join(f"{each.upper()}_API_KEY" for each in others)
            raise SettingsInvalid(
                f"No recording is made: no real model of {', '.join(others)} has answered. "
                f"Set {keys} in the environment of pytest. {kept}"
            )
        if not any(call["outcome"] in (None, "answered") for call in calls):
            raise SettingsInvalid(f"No recording is made: no model call was answered. {kept}")

    def write(self) -> None:
        """Puts the calls into the folder, in place of all. Raises SettingsInvalid as `check`."""
        _wait_for_the_end([instance for instance, _ in self._present()])
        self.check()
        entries: list[Any] = []
        for instance, last_id in self._present():
            recording = instance.client.recording(instance.id, after=last_id)
            entries += recording["entries"].values()
        if self._folder.is_dir():
            for earlier in self._folder.glob(f"*{folders.SUFFIX}"):
                earlier.unlink()
        for number, entry in enumerate(entries, start=1):
            folders.write(self._folder, number, Entry.model_validate(entry))

    def _present(self) -> list[tuple[LiveInstance, str | None]]:
        return [begun for begun in self._begun if begun[0].is_there]


def _calls_after(instance: LiveInstance, last_id: str | None) -> Iterator[dict[str, Any]]:
    """The calls that are recorded, which embeddings are not."""
    for call in instance.client.exchanges(instance.id, LISTED_CALLS):
        if call["id"] == last_id:
            return
        if "embed" not in call["path"].lower():
            yield call


def _wait_for_the_end(instances: list[LiveInstance]) -> None:
    """Waits for model calls that go on: an agent may answer before its model's answer has ended."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(
        call["outcome"] is None for each in instances for call in each.client.exchanges(each.id)
    ):
        if time.monotonic() > deadline:
            raise ServerSilent("A model call goes on: the recording would not be whole.")
        time.sleep(POLL_S)
