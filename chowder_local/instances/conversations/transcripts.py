"""Reading back what was said to an agent, whatever state it is in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong, SessionNotFound
from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.openclaw.transcripts.reader import TEXT_MAX
from chowder_local.openclaw.transcripts.turns import with_statuses

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.openclaw.transcripts.program_output import KeptSession
    from chowder_local.openclaw.transcripts.reader import Transcript, Transcripts
    from chowder_local.relay.session_watch import SessionWatch
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.sessions import RememberedSession, SessionQueries

Found = TypeVar("Found")
Answer = TypeVar("Answer", covariant=True)

_UNBORN = {InstanceStatus.PROVISIONING, InstanceStatus.TERMINATED}
"""What has no conversations yet, or none any more."""


class Read(Protocol[Answer]):
    """A question about conversations, asked in one of the two ways."""

    async def __call__(self, *, is_running: bool) -> Answer:
        """The answer."""


@dataclass(frozen=True)
class Session:
    """A conversation; without a name it is the main one, or one of OpenClaw's own."""

    key: str
    name: str | None
    created_at: datetime | None
    last_used_at: datetime | None
    messages: int
    channel: str | None

    @property
    def is_main(self) -> bool:
        """Whether it is the one that messages go to which name none."""
        return self.key == MAIN_KEY


class ConversationReader:
    """Tells of conversations: of a running instance from inside, of a still one from beside it."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        sessions: SessionQueries,
        transcripts: Transcripts,
        locks: KeyedLocks,
        watch: SessionWatch,
    ) -> None:
        self._instances = instances
        self._sessions = sessions
        self._transcripts = transcripts
        self._locks = locks
        self._watch = watch

    async def sessions(self, instance: Instance) -> list[Session]:
        """The main conversation, then all others, last used first.

        Raises InstanceStateWrong, GatewayUnavailable, EngineUnavailable, ImageMissing,
        SandboxMissing.
        """

        read = partial(self._transcripts.sessions, instance.sandbox_id)
        return await self._all(instance, await self._read(instance, read))

    async def _all(self, instance: Instance, kept: Sequence[KeptSession]) -> list[Session]:
        known = {each.key: each for each in kept}
        named = {each.session_key: each for each in await self._sessions.of_instance(instance.id)}
        keys = [key for key in {**known, **named} if key != MAIN_KEY]
        others = [_session(key, known.get(key), named.get(key)) for key in keys]
        others.sort(key=_latest, reverse=True)
        return [_session(MAIN_KEY, known.get(MAIN_KEY), None), *others]

    async def transcript(
        self,
        instance: Instance,
        key: str,
        *,
        limit: int,
        before: int | None,
        text_max: int = TEXT_MAX,
    ) -> Transcript:
        """The latest messages of a conversation, or the latest before a position.

        Texts are cut to so many characters. Raises SessionNotFound, and what `sessions` does.
        """

        read = partial(
            self._transcripts.transcript, instance.sandbox_id, key,
            limit=limit, before=before, text_max=text_max,
        )  # fmt: skip
        found = self._with_statuses(instance, key, before, await self._read(instance, read))
        if not found.is_known and key != MAIN_KEY:
            named = await self._sessions.of_instance(instance.id)
            if all(each.session_key != key for each in named):
                raise SessionNotFound
        return found

    async def sessions_and_transcript(
        self, instance: Instance, key: str, *, limit: int, before: int | None, text_max: int
    ) -> tuple[list[Session], Transcript]:
        """What `sessions` and `transcript` tell, at once; raises what these do."""

        read = partial(
            self._transcripts.sessions_and_transcript, instance.sandbox_id, key,
            limit=limit, before=before, text_max=text_max,
        )  # fmt: skip
        kept, found = await self._read(instance, read)
        sessions = await self._all(instance, kept)
        if not found.is_known and all(each.key != key for each in sessions):
            raise SessionNotFound
        return sessions, self._with_statuses(instance, key, before, found)

    def _with_statuses(
        self, instance: Instance, key: str, before: int | None, found: Transcript
    ) -> Transcript:
        is_answering = self._watch.is_active(instance.sandbox_id, key)
        turns = with_statuses(found.turns, is_end=before is None, is_answering=is_answering)
        return replace(found, turns=turns)

    async def _read(self, instance: Instance, read: Read[Found]) -> Found:
        if instance.status is InstanceStatus.RUNNING:
            # One that is just being stopped is frozen already.
            with suppress(SandboxPaused):
                return await read(is_running=True)
        # A sandbox that is still must not be removed, nor go on, under the program's feet.
        async with self._locks.holding(instance.id):
            current = await self._instances.get(instance.id)
            if current is None or current.status in _UNBORN:
                status = InstanceStatus.TERMINATED if current is None else current.status
                raise InstanceStateWrong(status, "running or stopped")
            return await read(is_running=current.status is InstanceStatus.RUNNING)


def _session(key: str, kept: KeptSession | None, named: RememberedSession | None) -> Session:
    # The name is safe before OpenClaw hears of it, and its use is known before it is done.
    known = [each for each in (kept, named) if each is not None]
    return Session(
        key=key,
        name=None if named is None else named.name,
        created_at=min((each.created_at for each in known if each.created_at), default=None),
        last_used_at=max((each.last_used_at for each in known if each.last_used_at), default=None),
        messages=0 if kept is None else kept.messages,
        channel=None if kept is None else kept.channel,
    )


def _latest(session: Session) -> float:
    return 0.0 if session.last_used_at is None else session.last_used_at.timestamp()
