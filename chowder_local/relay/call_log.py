"""The latest model calls of each instance, as they were sent and answered; kept in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.core.domain import wire_of
from chowder_local.relay.last_words import last_words
from chowder_local.relay.origin import model_of, session_key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chowder_local.core.domain import InstanceId, OrganizationId

MAX_BYTES = 32 * 1024 * 1024
"""A call of an agent has about 70 kB, most of it OpenClaw's own instructions."""
WHOLE = ("answered", "offline")
"""Outcomes of calls that have an answer."""
MAX_ANSWER_BYTES = 1024 * 1024
"""Of each answer; more of it passes by, and is counted only."""


@dataclass(frozen=True)
class Chunk:
    """Bytes of an answer, and how long after the call they came."""

    after_s: float
    data: bytes


@dataclass(frozen=True)
class Try:
    """An attempt of the relay's that came to nothing, so that it has asked again."""

    source: str
    status: int | None
    """None if there was no answer at all."""
    waited_s: float


@dataclass
class Exchange:
    """A model call and what has come back by now. Without headers, and so without any key."""

    id: str
    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    provider: str
    path: str
    request: bytes
    turn_id: str | None
    """The same for all calls of a turn."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = "provider"
    """Who answers: provider, offline, recording, or the rule of a script of replies."""
    status: int | None = None
    content_type: str = ""
    outcome: str | None = None
    """None while it goes on."""
    error: str | None = None
    tries: list[Try] = field(default_factory=list)
    """Those before the one that this tells of."""
    chunks: list[Chunk] = field(default_factory=list)
    answer_bytes: int = 0
    took_s: float | None = None
    _began_s: float = field(default_factory=time.monotonic)
    _told: Callable[[], None] | None = None

    @cached_property
    def session_key(self) -> str | None:
        """OpenClaw's key of the session; looked for when somebody wants to know."""
        return session_key_of(wire_of(self.provider), self.request)

    def came(self, data: bytes) -> int:
        """Keeps a part of the answer, if there is room for it; says how much was kept."""
        is_kept = self.answer_bytes + len(data) <= MAX_ANSWER_BYTES
        self.answer_bytes += len(data)
        if not is_kept:
            return 0
        self.chunks.append(Chunk(time.monotonic() - self._began_s, data))
        return len(data)

    def tried(self, status: int | None, waited_s: float = 0.0) -> None:
        """Says that it is asked once more."""
        self.tries.append(Try(self.source, status, waited_s))
        if self._told is not None:
            self._told()

    def ended(self, outcome: str, error: str | None = None) -> None:
        """Says how it went."""
        self.outcome, self.error = outcome, error
        self.took_s = time.monotonic() - self._began_s
        if self._told is not None:
            self._told()

    @cached_property
    def model(self) -> str | None:
        """The model that was asked, if it can be told."""
        return model_of(wire_of(self.provider), self.path, self.request)

    @cached_property
    def words(self) -> str | None:
        """What a person said last, if it can be told. Reads all of the request."""
        return last_words(wire_of(self.provider), self.path, self.request)

    @property
    def is_whole(self) -> bool:
        """Whether it has come to its end, and all of the answer is here."""
        kept = sum(len(chunk.data) for chunk in self.chunks)
        return self.outcome in WHOLE and kept == self.answer_bytes

    @property
    def size_bytes(self) -> int:
        """What keeping it takes, about."""
        return len(self.request) + sum(len(chunk.data) for chunk in self.chunks)


class Exchanges:
    """The latest ones, as many as there is room for. Used in one event loop."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Exchange] = OrderedDict()
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._viewers: set[asyncio.Event] = set()

    def begin(
        self,
        organization_id: OrganizationId | None,
        instance_id: InstanceId | None,
        provider: str,
        path: str,
        request: bytes,
        turn_id: str | None = None,
    ) -> Exchange:
        """A new one, which the caller tells how it goes on; of a spare's, nothing is kept."""
        made = Exchange(
            f"ex-{next(self._numbers)}", organization_id, instance_id, provider, path, request,
            turn_id, _told=self._tell,
        )  # fmt: skip
        if instance_id is not None:
            self._kept[made.id] = made
            self._grow(len(request))
            self._tell()
        return made

    def came(self, exchange: Exchange, data: bytes) -> None:
        """A part of its answer."""
        if exchange.id in self._kept:
            self._grow(exchange.came(data))

    def of_instance(self, instance_id: InstanceId) -> Iterator[Exchange]:
        """An instance's, the latest first."""
        return (each for each in reversed(self._kept.values()) if each.instance_id == instance_id)

    def of_organization(self, organization_id: OrganizationId) -> Iterator[Exchange]:
        """An organization's, the latest first."""
        kept = reversed(self._kept.values())
        return (each for each in kept if each.organization_id == organization_id)

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """An event that is set each time that one of them begins, is repeated or ends."""
        news = asyncio.Event()
        self._viewers.add(news)
        try:
            yield news
        finally:
            self._viewers.discard(news)

    def latest(self) -> dict[InstanceId, Exchange]:
        """The latest of each instance that has any."""
        return {
            each.instance_id: each for each in self._kept.values() if each.instance_id is not None
        }

    def get(self, organization_id: OrganizationId, exchange_id: str) -> Exchange | None:
        """One of them, if it is that organization's."""
        found = self._kept.get(exchange_id)
        return found if found is not None and found.organization_id == organization_id else None

    def _tell(self) -> None:
        for news in self._viewers:
            news.set()

    def _grow(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size_bytes
