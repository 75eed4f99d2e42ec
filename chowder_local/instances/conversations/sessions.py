"""The sessions of agents: their names, and reading them and their transcripts, running or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import RpcRefused, SessionRefused
from chowder_local.core.errors.requests import InstanceStateWrong, SessionNotFound
from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.openclaw.responses.history import digest
from chowder_local.openclaw.sandbox_exec import CALL_TIMEOUT_S
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.openclaw.transcripts.reader import TEXT_MAX
from chowder_local.openclaw.transcripts.turns import with_statuses
from chowder_local.relay.local_model import SessionName
from chowder_local.store.conversation_histories import ConversationHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.instances.conversations.activity import Activities
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.openclaw.sandbox_exec import Control
    from chowder_local.openclaw.transcripts.program_output import KeptSession
    from chowder_local.openclaw.transcripts.reader import Transcript, Transcripts
    from chowder_local.relay.session_watch import SessionWatch
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.sessions import NamedSession, SessionQueries


@dataclass(eq=False, repr=False)
class SessionNames:
    """Stores names, and finds those that were used since the server was started."""

    sessions: SessionQueries
    clock: Callable[[], datetime]

    async def remember(self, instance_id: InstanceId, name: str) -> None:
        """Stores a name, and that its session is used now."""
        await self.sessions.remember(instance_id, name, session_key(name), self.clock())

    def find(self, instance_id: InstanceId, session_key: str) -> SessionName | None:
        """The session's name; None if the API did not name it, as in a messenger's chat."""
        if session_key == MAIN_KEY:
            return SessionName(None)
        name = self.sessions.name_of(instance_id, session_key)
        return None if name is None else SessionName(name)


Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)

_OWN_KEYS = "agent:"
"""How OpenClaw's keys of sessions begin."""
_WITHOUT_CONVERSATIONS = {InstanceStatus.PROVISIONING, InstanceStatus.TERMINATED}


class Read(Protocol[ResultOut]):
    """Reads from the agent's database: inside its sandbox if it runs, or else from its volume."""

    async def __call__(self, sandbox_id: SandboxId, *, is_running: bool) -> ResultOut: ...


@dataclass(frozen=True)
class Session:
    """A session; without a name it is the main one, or one that OpenClaw created itself."""

    key: str
    name: str | None
    created_at: datetime | None
    last_used_at: datetime | None
    messages: int
    channel: str | None

    @property
    def is_main(self) -> bool:
        """Whether messages without a session go to it."""
        return self.key == MAIN_KEY


@dataclass(eq=False, repr=False, kw_only=True)
class ConversationReader:
    """Reads sessions and transcripts of instances."""

    agents: Agents
    residency: Residency
    session_queries: SessionQueries
    transcripts: Transcripts
    watch: SessionWatch

    async def sessions(self, instance: Instance) -> list[Session]:
        """The main session, then all others, last used first.

        Raises InstanceStateWrong if the instance is `provisioning` or `terminated`;
        GatewayUnavailable, EngineUnavailable, ImageMissing, SandboxMissing.
        """
        kept = await self._read(instance, self.transcripts.sessions)
        return await self._merge(instance, kept)

    async def _merge(self, instance: Instance, kept: Sequence[KeptSession]) -> list[Session]:
        named = await self.session_queries.of_instance(instance.id)
        # In a thread, because there may be tens of thousands.
        return await asyncio.to_thread(_merged, kept, named)

    async def transcript(
        self,
        instance: Instance,
        key: str,
        *,
        limit: int,
        before: int | None,
        text_max: int = TEXT_MAX,
    ) -> Transcript:
        """The latest messages of a session, or the latest before a position.

        Texts are cut to `text_max` characters. Raises SessionNotFound if there is no such session,
        and what `sessions` raises.
        """
        read = partial(
            self.transcripts.transcript, key=key,
            limit=limit, before=before, text_max=text_max,
        )  # fmt: skip
        transcript = self._with_statuses(instance, key, before, await self._read(instance, read))
        if not transcript.is_known and key != MAIN_KEY:
            named = await self.session_queries.of_instance(instance.id)
            if all(each.session_key != key for each in named):
                raise SessionNotFound
        return transcript

    async def sessions_and_transcript(
        self, instance: Instance, key: str, *, limit: int, before: int | None, text_max: int
    ) -> tuple[list[Session], Transcript]:
        """The results of `sessions` and `transcript` in one read; raises what these raise."""
        read = partial(
            self.transcripts.sessions_and_transcript, key=key,
            limit=limit, before=before, text_max=text_max,
        )  # fmt: skip
        kept, transcript = await self._read(instance, read)
        sessions = await self._merge(instance, kept)
        if not transcript.is_known and all(each.key != key for each in sessions):
            raise SessionNotFound
        return sessions, self._with_statuses(instance, key, before, transcript)

    def _with_statuses(
        self, instance: Instance, key: str, before: int | None, transcript: Transcript
    ) -> Transcript:
        is_answering = self.watch.is_active(instance.sandbox_id, key)
        turns = with_statuses(transcript.turns, is_end=before is None, is_answering=is_answering)
        return replace(transcript, turns=turns)

    async def _read(self, instance: Instance, read: Read[Result]) -> Result:
        with self.residency.counting(instance.id):
            # An agent in memory stays there while it is read; another one is read from its volume.
            if instance.is_in_memory and not self.residency.is_stale(instance):
                # A stop that is in progress may have frozen the agent already.
                with suppress(SandboxPaused):
                    return await read(instance.sandbox_id, is_running=True)
        # A sandbox must not be resumed or removed while a program reads its volume.
        async with self.agents.holding(instance) as agent:
            current = agent.row
            if current.status in _WITHOUT_CONVERSATIONS:
                raise InstanceStateWrong(
                    current.status, "running or stopped", current.error_message
                )
            return await read(current.sandbox_id, is_running=current.is_in_memory)


COMPACTION_TIMEOUT_S = 900.0
"""A model summarizes the conversation."""
_WITHOUT_SESSION = {"no sessionId", "no transcript"}


@dataclass(frozen=True)
class Compaction:
    """Whether a session was compacted; `reason` is OpenClaw's, if it has one."""

    is_compacted: bool
    reason: str | None


@dataclass(eq=False, repr=False, kw_only=True)
class SessionControl:
    """Changes the sessions of running agents, without a message to them.

    All raise SessionRefused with OpenClaw's message if it refuses that, GatewayUnavailable,
    EngineUnavailable, SandboxMissing, SandboxPaused.
    """

    control: Control
    activities: Activities
    on_delete: Callable[[SandboxId, str | None], object]
    """Is called with the name of a session that is gone."""
    session_queries: SessionQueries
    histories: ConversationHistoryQueries
    transcripts: Transcripts

    async def key_of(self, instance: Instance, name: str | None) -> str:
        """OpenClaw's key of a session that a name or that key itself names."""
        key = session_key(name)
        if name is None or not name.startswith(_OWN_KEYS):
            return key
        named = await self.session_queries.of_instance(instance.id)
        return key if any(each.session_key == key for each in named) else name

    async def reset(self, instance: Instance, name: str | None) -> None:
        """Ends what runs in a session, and makes the agent forget the conversation."""
        key = await self.key_of(instance, name)
        await self.activities.cancel_session(instance, key)
        await self._call(instance, "sessions.reset", key)
        self.histories.put(instance.id, key, ConversationHistory())

    async def rewind(self, instance: Instance, name: str | None, position: int) -> None:
        """Ends what runs in a session, and sets it back to before a user's message.

        Files stay as they are. Raises SessionNotFound if there is no such message.
        """
        key = await self.key_of(instance, name)
        await self.activities.cancel_session(instance, key)
        message = await self.transcripts.message_at(instance.sandbox_id, key, position)
        if message is None:
            raise SessionNotFound
        place = {"sessionKey": key, "entryId": message.entry_id}
        await self._call(instance, "sessions.rewind", key, params=place)
        # Items after it are new again if a client sends them.
        record = await self.histories.get(instance.id, key)
        digests = [each.digest for each in record.items]
        item = digest({"type": "message", "role": "user", "content": message.text})
        end = len(digests) - 1 - digests[::-1].index(item) if item in digests else 0
        self.histories.put(instance.id, key, replace(record, items=record.items[:end]))

    async def compact(self, instance: Instance, name: str | None) -> Compaction:
        """Has the agent's model summarize a session. Raises SessionNotFound if it is empty."""
        key = await self.key_of(instance, name)
        answer = await self._call(instance, "sessions.compact", key, timeout_s=COMPACTION_TIMEOUT_S)
        reason = untrusted_json.message_of(answer.get("reason")) or None
        if reason in _WITHOUT_SESSION:
            raise SessionNotFound
        return Compaction(answer.get("compacted") is True, reason)

    async def abort(self, instance: Instance, name: str | None) -> list[str]:
        """Ends the turns of a session, and drops its messages that wait; the turns' ids."""
        return await self.activities.cancel_session(instance, await self.key_of(instance, name))

    async def delete(self, instance: Instance, name: str | None) -> None:
        """Ends what runs in a session, and removes it with its transcript.

        Raises SessionNotFound if there is none.
        """
        key = await self.key_of(instance, name)
        await self.activities.cancel_session(instance, key)
        answer = await self._call(instance, "sessions.delete", key)
        named = await self.session_queries.of_instance(instance.id)
        is_known = any(each.session_key == key for each in named)
        self.on_delete(instance.sandbox_id, name)
        await self.session_queries.remove(instance.id, key)
        self.histories.put(instance.id, key, ConversationHistory())
        if answer.get("deleted") is not True and not is_known:
            raise SessionNotFound

    async def _call(
        self,
        instance: Instance,
        method: str,
        key: str,
        timeout_s: float = CALL_TIMEOUT_S,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            return await self.control.call(
                instance.sandbox_id, method, params or {"key": key}, timeout_s=timeout_s
            )
        except RpcRefused as refused:
            raise SessionRefused(str(refused)) from refused


def _merged(kept: Sequence[KeptSession], named: Sequence[NamedSession]) -> list[Session]:
    """The main session, then all others, last used first."""
    stored = {each.key: each for each in kept}
    names = {each.session_key: each for each in named}
    keys = [key for key in {**stored, **names} if key != MAIN_KEY]
    others = [_session(key, stored.get(key), names.get(key)) for key in keys]
    others.sort(key=_latest, reverse=True)
    return [_session(MAIN_KEY, stored.get(MAIN_KEY), None), *others]


def _session(key: str, kept: KeptSession | None, named: NamedSession | None) -> Session:
    # The name is stored before OpenClaw creates the session, so either may be missing.
    records = [each for each in (kept, named) if each is not None]
    return Session(
        key=key,
        name=None if named is None else named.name,
        created_at=min((each.created_at for each in records if each.created_at), default=None),
        last_used_at=max(
            (each.last_used_at for each in records if each.last_used_at), default=None
        ),
        messages=0 if kept is None else kept.messages,
        channel=None if kept is None else kept.channel,
    )


def _latest(session: Session) -> float:
    return 0.0 if session.last_used_at is None else session.last_used_at.timestamp()
