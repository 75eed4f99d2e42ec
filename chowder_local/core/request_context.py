"""Which request, and which instance, the code that runs now works for; the log tells it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import InstanceId

REQUEST_ID_HEADER = "X-Request-Id"

_ACCEPTED = re.compile(r"[A-Za-z0-9._~-]{1,64}")
# A task that a request begins, such as a boot, inherits its context.
_worked_for: ContextVar[tuple[str | None, InstanceId | None]] = ContextVar(
    "worked_for", default=(None, None)
)


def request_id() -> str | None:
    """The id of the request that is worked for; None outside of any."""
    return _worked_for.get()[0]


def instance_id() -> InstanceId | None:
    """The instance that is worked for, once it is known."""
    return _worked_for.get()[1]


def may_be_logged(offered_id: str) -> bool:
    """Whether the id that a client gave its request is short, and harmless in a log."""
    return _ACCEPTED.fullmatch(offered_id) is not None


def of_request(request_id: str) -> None:
    """From now on that request is worked for, and no instance yet, until the task ends."""
    _worked_for.set((request_id, None))


def of_instance(instance_id: InstanceId | None) -> None:
    """From now on that instance is worked for, until the request or the task ends."""
    _worked_for.set((_worked_for.get()[0], instance_id))


@contextmanager
def for_instance(instance_id: InstanceId) -> Iterator[None]:
    """That instance is worked for within the block."""
    former = _worked_for.set((_worked_for.get()[0], instance_id))
    try:
        yield
    finally:
        _worked_for.reset(former)
