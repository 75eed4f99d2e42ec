"""Recordings of single tests, in folders beside them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chowder_local.errors.process import ServerSilent
from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chowder_local.testing.live import LiveInstance

END_TIMEOUT_S = 10.0
POLL_S = 0.05


@contextmanager
def replayed(instance: LiveInstance, folder: Path) -> Iterator[None]:
    """Answers the instance's model calls from the folder. Raises SettingsInvalid."""
    entries = folders.read(folder)
    told = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
    instance.client.replay(instance.id, told)
    try:
        yield
    finally:
        instance.client.end_replay(instance.id)


@contextmanager
def recorded(instance: LiveInstance, folder: Path, is_good: Callable[[], bool]) -> Iterator[None]:
    """Writes the model calls that the instance makes meanwhile into the folder, in place of all.

    What is there stays as it is unless they are good.
    """
    before = instance.client.exchanges(instance.id, limit=1)
    yield
    if not is_good():
        return
    _wait_for_the_end(instance)
    last_id = before[0]["id"] if before else None
    entries = instance.client.recording(instance.id, after=last_id)["entries"].values()
    if folder.is_dir():
        for earlier in folders.read(folder):
            (folder / earlier).unlink()
    for number, entry in enumerate(entries, start=1):
        folders.write(folder, number, Entry.model_validate(entry))


def _wait_for_the_end(instance: LiveInstance) -> None:
    """An agent may answer before it has heard the very end of what its model said."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(each["outcome"] is None for each in instance.client.exchanges(instance.id)):
        if time.monotonic() > deadline:
            raise ServerSilent("A model call goes on: the recording would not be whole.")
        time.sleep(POLL_S)
