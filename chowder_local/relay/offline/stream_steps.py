"""What may happen within an answer of the offline model besides its text."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors.upstream import StreamBroken

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable


class StreamStep:
    """One of those below."""


@dataclass(frozen=True)
class Wait(StreamStep):
    """Nothing comes for a while."""

    seconds: float


@dataclass(frozen=True)
class Raw(StreamStep):
    """These bytes come, whatever they are."""

    data: bytes


@dataclass(frozen=True)
class Cut(StreamStep):
    """The answer breaks off."""


async def played(steps: Iterable[bytes | StreamStep]) -> AsyncGenerator[bytes, None]:
    """The answer's bytes at its pace; raises StreamBroken where it is cut."""
    for step in steps:
        if isinstance(step, bytes):
            yield step
        elif isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Raw):
            yield step.data
        else:
            raise StreamBroken("the script of its replies cut it off")
