"""The request and the instance that the running code works for, for the log."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import InstanceId

REQUEST_ID_HEADER = "X-Request-Id"

_ACCEPTED = re.compile(r"[A-Za-z0-9._~-]{1,64}")
# A task that a request starts, such as a boot, inherits its context.
_current: ContextVar[tuple[str | None, InstanceId | None]] = ContextVar(
    "current", default=(None, None)
)


_arrival: ContextVar[tuple[float, str | None]] = ContextVar("arrival")


def request_id() -> str | None:
    """The id of the current request, if there is one."""
    return _current.get()[0]


def instance_id() -> InstanceId | None:
    """The id of the current instance, once it is known."""
    return _current.get()[1]


def may_be_logged(client_id: str) -> bool:
    """Whether the id that a client gave its request is short and harmless in a log."""
    return _ACCEPTED.fullmatch(client_id) is not None


def waited_s() -> float:
    """The time since the current request has arrived; 0 if there is none."""
    arrival = _arrival.get(None)
    return 0.0 if arrival is None else time.monotonic() - arrival[0]


def traceparent() -> str | None:
    """The trace that the current request belongs to, by its own header (W3C Trace Context)."""
    arrival = _arrival.get(None)
    return None if arrival is None else arrival[1]


def set_request(request_id: str, traceparent: str | None = None) -> None:
    """Makes a request the current one until the task ends, with no instance yet."""
    _current.set((request_id, None))
    _arrival.set((time.monotonic(), traceparent))


def set_instance(instance_id: InstanceId | None) -> None:
    """Makes an instance the current one until the request or the task ends."""
    _current.set((_current.get()[0], instance_id))


@contextmanager
def for_instance(instance_id: InstanceId) -> Iterator[None]:
    """Makes an instance the current one within the block."""
    former = _current.set((_current.get()[0], instance_id))
    try:
        yield
    finally:
        _current.reset(former)
