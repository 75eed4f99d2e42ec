"""Whether somebody has ended a container by the engine, as `docker stop` and `docker kill` do."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from docker.errors import APIError

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container


def was_signalled(client: docker.DockerClient, container: Container) -> bool:
    """Whether one that has exited was sent a signal since it was started, through the engine.

    An engine keeps its latest 256 events, and some keep none: it is false then.
    """
    state = container.attrs["State"]
    began, ended = (_seconds(state.get(name)) for name in ("StartedAt", "FinishedAt"))
    if began is None or ended is None:
        return False
    try:
        # With an end, which has to be over by then, or the engine waits for it.
        events = client.events(
            since=began, until=ended + 1, filters={"container": container.id, "event": ["kill"]}
        )
        with closing(events):
            return next(iter(events), None) is not None
    except APIError:
        return False


def _seconds(time: str | None) -> int | None:
    # An engine tells nanoseconds, and of what has not been a year 1.
    try:
        return int(datetime.fromisoformat(f"{str(time)[:19]}+00:00").timestamp())
    except ValueError:
        return None
