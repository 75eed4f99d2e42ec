"""Which recordings are made and answered from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry
from chowder_local.relay.recordings.player import Playback
from chowder_local.relay.recordings.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import LoggedCall


class RecordingRegistry:
    """The server's own recording or playback, and playbacks of single instances."""

    def __init__(self, recorder: Recorder | None = None, playback: Playback | None = None) -> None:
        self.recorder = recorder
        self._playback = playback
        self._of: dict[InstanceId, Playback] = {}

    @classmethod
    async def open(cls, record: Path | None, replay: Path | None) -> Self:
        """As the server is started. Raises SettingsInvalid for what is no recording."""
        recorder = playback = None
        if record is not None:
            # What is there is gone on with.
            recorder = Recorder(record, await asyncio.to_thread(folders.last_number, record))
        if replay is not None:
            playback = Playback(await asyncio.to_thread(folders.read, replay))
        return cls(recorder, playback)

    @property
    def is_replayed(self) -> bool:
        """Whether all are answered from a recording that the server was started with."""
        return self._playback is not None

    def put(self, instance_id: InstanceId, entries: Mapping[str, Entry]) -> None:
        """Has an instance's model calls answered from these, in place of earlier ones."""
        self._of[instance_id] = Playback(entries)

    def entries(self, instance_id: InstanceId) -> Mapping[str, Entry] | None:
        found = self._of.get(instance_id)
        return None if found is None else found.entries

    def remove(self, instance_id: InstanceId) -> None:
        self._of.pop(instance_id, None)

    def playback(self, instance_id: InstanceId | None) -> Playback | None:
        """What an instance's model calls are answered from; of a spare's nothing is recorded."""
        if instance_id is None:
            return None
        return self._of.get(instance_id) or self._playback


def make_recording(calls: Iterable[LoggedCall]) -> dict[str, Entry]:
    """A recording of logged calls, by file name; those without a whole answer are left out."""
    entries: dict[str, Entry] = {}
    for call in calls:
        asked = Asked.of_call(call.call)
        if asked is not None and call.is_whole and call.status is not None:
            answered = AnsweredCall.of(call.status, call.content_type, call.answer)
            entry = Entry(asked=asked, answered=answered)
            entries[folders.name_of(len(entries) + 1, entry)] = entry
    return entries
