"""Replays and makes the recordings of single tests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.process import ServerSilent, SettingsInvalid
from chowder_local.relay import recordings
from chowder_local.relay.recordings import RecordedCall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.testing.live import LiveInstance

__tracebackhide__ = True

END_TIMEOUT_S = 10.0
POLL_S = 0.05
LISTED_CALLS = 1_000
REAL = "provider"
"""The `source` of a model call that a real provider answered."""
RECORDED = "recording"
"""The `source` of a model call that a recording answered."""


class Replay:
    """Answers the model calls of instances from a folder, until `end`."""

    def __init__(self, folder: Path, command: str) -> None:
        """`command` is the command that records.

        Raises SettingsInvalid if there is no recording in the folder or if it is invalid.
        """
        entries = recordings.read(folder, f"{command}, with a model key in the environment")
        self._entries = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
        self._instances: list[LiveInstance] = []

    def begin(self, instance: LiveInstance) -> None:
        instance.client.replay(instance.id, self._entries)
        self._instances.append(instance)

    def has_answered(self, since: datetime) -> bool:
        """Whether a model call since a time was answered from the recording."""
        calls = chain.from_iterable(
            each.client.model_calls(each.id, LISTED_CALLS)
            for each in self._instances
            if each.is_there
        )
        return any(
            call["source"] == RECORDED
            and call["error"] is None
            and datetime.fromisoformat(call["at"]) >= since
            for call in calls
        )

    def end(self) -> None:
        """Lets the instances' models answer again."""
        for instance in self._instances:
            if instance.is_there:
                instance.client.end_replay(instance.id)


@dataclass(eq=False, repr=False)
class NewRecording:
    """Records instances' calls of real models, and replaces the recording of a folder."""

    folder: Path

    def __post_init__(self) -> None:
        self._instances: list[tuple[LiveInstance, str | None]] = []

    def begin(self, instance: LiveInstance) -> None:
        """Records the instance's model calls from now on."""
        before = instance.client.model_calls(instance.id, limit=1)
        self._instances.append((instance, before[0]["id"] if before else None))

    def check(self) -> None:
        """Raises SettingsInvalid unless there are calls, all of them answered by real models."""
        calls = [
            call
            for instance, last_id in self._present()
            for call in _calls_after(instance, last_id)
        ]
        unchanged = f"The folder {self.folder} is unchanged."
        if others := sorted({call["provider"] for call in calls if call["source"] != REAL}):
            keys = ", ".join(f"{each.upper()}_API_KEY" for each in others)
            raise SettingsInvalid(
                f"No recording is made: no real model of {', '.join(others)} has answered. "
                f"Set {keys} in the environment of pytest. {unchanged}"
            )
        if not any(call["outcome"] in (None, "answered") for call in calls):
            raise SettingsInvalid(f"No recording is made: no model call was answered. {unchanged}")

    def write(self) -> None:
        """Replaces the recording in the folder.

        Raises SettingsInvalid as `check` does, and ServerSilent if a model call does not end.
        """
        _wait_for_the_end([instance for instance, _ in self._present()])
        self.check()
        entries: list[Any] = []
        for instance, last_id in self._present():
            recording = instance.client.recording(instance.id, after=last_id)
            entries += recording["entries"].values()
        if self.folder.is_dir():
            for earlier in self.folder.glob(f"*{recordings.SUFFIX}"):
                earlier.unlink()
        for number, entry in enumerate(entries, start=1):
            recordings.write(self.folder, number, RecordedCall.model_validate(entry))

    def _present(self) -> list[tuple[LiveInstance, str | None]]:
        return [each for each in self._instances if each[0].is_there]


def _calls_after(instance: LiveInstance, last_id: str | None) -> Iterator[dict[str, Any]]:
    """The calls that are recorded: those after `last_id`, except embeddings."""
    for call in instance.client.model_calls(instance.id, LISTED_CALLS):
        if call["id"] == last_id:
            return
        if "embed" not in call["path"].lower():
            yield call


def _wait_for_the_end(instances: list[LiveInstance]) -> None:
    """Waits for running model calls: an agent may answer before its model's answer has ended."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(
        call["outcome"] is None for each in instances for call in each.client.model_calls(each.id)
    ):
        if time.monotonic() > deadline:
            raise ServerSilent(
                "A model call has not ended: the recording would be incomplete. Run the test again."
            )
        time.sleep(POLL_S)
