"""What people and an agent have said to each other in one channel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from chowder_local.core.events import ChangeSignal, EventType
from chowder_local.core.fault_injection import Call, ChannelEffect, FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Events
    from chowder_local.core.fault_injection import FaultDraft, Faults
    from chowder_local.core.tasks import Shutdown
    from chowder_local.features.messengers.store import ChannelMessageQueries

MAX_MESSAGES = 1000
"""The messages of a channel that are kept; older ones are removed."""
MAX_TEXT_CHARS = 65_536
MAX_PAYLOAD_CHARS = 16_384
"""A longer payload is not kept."""
MAX_CHARS = 8_000_000
"""Of all texts and payloads of a channel; then the older half is removed."""
ANSWER_QUIET_S = 1.0
"""An agent that has said and typed nothing for so long has answered."""
MORE_LETTERS = 40
"""What a messenger may add to an answer."""
MAX_PARTS = 8
"""In so many messages an answer to an earlier message is looked for."""
UNFINISHED_QUIET_S = 5.0
"""As long as something of its model's answer is missing. A messenger may change it beyond that."""
MORE_MESSAGES = 100
"""So many more are let come before the older ones are removed, all at once."""


class MessageKind(StrEnum):
    """What somebody has done. All but a message are the agent's."""

    MESSAGE = "message"
    EDIT = "edit"
    DELETION = "deletion"
    REACTION = "reaction"
    TYPING = "typing"


WRITTEN = {MessageKind.MESSAGE, MessageKind.EDIT}
"""What an injected fault of the agent's messages applies to."""
DELIVERED = (
    ChannelEffect.TWICE,
    ChannelEffect.OUT_OF_ORDER,
    ChannelEffect.LATE,
    ChannelEffect.DISCONNECT,
)
"""The effects on what a person has written."""


class ChannelMessage(BaseModel):
    """A message of a channel, or what the agent has done to one."""

    model_config = ConfigDict(frozen=True)

    id: int = Field(description="Grows with each message of the server.", examples=[17])
    channel: str = Field(examples=["telegram"])
    at: datetime
    author: Literal["person", "agent"]
    # In its place, as some generators have one name for a value, and turns are of kinds, too.
    kind: Annotated[MessageKind, WithJsonSchema({"type": "string", "enum": [*MessageKind]})] = (
        MessageKind.MESSAGE
    )
    person: str | None = Field(
        description="Who wrote it, or whom the agent answers; null for the agent's in a group.",
        examples=["Ada"],
    )
    group: str | None = Field(None, examples=["Team"])
    thread: str | None = Field(None, examples=["Plans"])
    text: str | None = Field(None, examples=["Hello"])
    image_type: str | None = Field(
        None, description="The media type of its image.", examples=["image/png"]
    )
    of: int | None = Field(
        None, description="The message that it edits, deletes or reacts to.", examples=[16]
    )
    is_delivered: bool = Field(True, description="Whether the agent has fetched it.")
    payload: dict[str, Any] = Field(
        default_factory=dict, description="As the messenger's own protocol has it."
    )

    @property
    def chars(self) -> int:
        """About how much it takes in memory."""
        return len(self.text or "") + len(json.dumps(self.payload))

    @property
    def chat(self) -> tuple[str | None, str | None]:
        """The conversation that it belongs to: a group, or a person."""
        return (self.group, None) if self.group else (None, self.person)

    @property
    def is_answer(self) -> bool:
        """Whether it changes what a person reads."""
        return self.author == "agent" and self.kind not in {
            MessageKind.TYPING,
            MessageKind.REACTION,
        }


@dataclass(frozen=True)
class AnswerProgress:
    """How far an agent is with an answer: whether it works, and what its model has said last."""

    is_busy: bool = False
    text: str = ""

    def is_whole(self, answers: Iterable[ChannelMessage]) -> bool:
        """Whether the answers have all of the text; messengers change its marks and spaces.

        With many more letters, or a message without which the others have all of it, there is still
        a draft that will be deleted. A draft without the first word, such as one that says that
        the agent works, will be edited.
        """
        letters = _count_letters(self.text)
        least = _count_letters(_UNSEEN.sub("", self.text))
        texts = [each.text or "" for each in answers]
        there = [_count_letters(each) for each in texts]
        total = sum(there)
        more = total - letters
        is_draft = any(0 < each <= more for each in there)
        first = _WORD.search(self.text)
        is_begun = first is not None and any(first[0] in each for each in texts)
        return is_begun and least <= total and more <= MORE_LETTERS and not is_draft


@dataclass(frozen=True)
class EarlierAnswers:
    """What an agent may still answer to earlier messages: these texts, and all before a time."""

    texts: tuple[str, ...] = ()
    until: datetime | None = None

    def left_out_of(self, answers: list[ChannelMessage]) -> list[ChannelMessage]:
        for text in self.texts:
            progress = AnswerProgress(text=text)
            ends = (
                end
                for end in range(1, min(len(answers), MAX_PARTS) + 1)
                for start in range(end)
                if progress.is_whole(answers[start:end]) and _have(answers[start:end], text)
            )
            answers = answers[next(ends, 0) :]
        return [each for each in answers if self.until is None or each.at >= self.until]


class ChannelFault(Exception):
    """An injected fault ends an agent's call or connection; without a status, by cutting it off."""

    def __init__(self, fault: FaultDraft) -> None:
        super().__init__(f"a fault was injected: {fault.effect}")
        self.fault = fault


_WORD = re.compile(r"[^\W_]+")
_UNSEEN = re.compile(r"\]\([^()\s]*\)|```\w*")
"""In Markdown, the address of a link and the language of code: some messengers hide them."""


def _count_letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _have(messages: Iterable[ChannelMessage], text: str) -> bool:
    """Whether the letters of a text are in the messages, in order: many texts have as many."""
    there = iter("".join(each.text or "" for each in messages))
    return all(each in there for each in _UNSEEN.sub("", text) if each.isalnum())


def number_of(name: str, bits: int = 31) -> int:
    """A messenger's number for a name: the same at any time, and on any machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % (1 << bits) or 1


@dataclass(eq=False, repr=False, kw_only=True)
class Mailbox:
    """One channel of one agent. Use it in one event loop only."""

    instance: Instance
    channel: str
    secret: str
    """What the agent authenticates with, where its protocol has something for that."""
    url: str
    """Where the agent finds the messenger's server."""
    is_running: Callable[[], Awaitable[bool]]
    """Whether the agent runs; a stopped one may still have a call under way."""
    queries: ChannelMessageQueries
    events: Events
    faults: Faults
    shutdown: Shutdown
    clock: Callable[[], datetime]
    messages: deque[ChannelMessage] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.changes = ChangeSignal()
        self._chars = 0
        self.state: dict[str, Any] = {}
        """What a stand-in remembers of the connection."""
        self.drafts: set[int] = set()
        """The messages that the agent is still writing, where the protocol says so."""
        self._injected: dict[int, FaultDraft] = {}
        """The faults of messages that are to be delivered."""

    async def load(self) -> None:
        """Reads the kept messages."""
        stored = await self.queries.of_channel(
            self.instance.id, self.channel, MAX_MESSAGES + MORE_MESSAGES
        )
        self.messages = deque(
            ChannelMessage(
                id=each.id,
                channel=self.channel,
                is_delivered=each.is_delivered,
                **each.content,
            )
            for each in stored
        )
        self._chars = sum(each.chars for each in self.messages)

    async def add(
        self, author: Literal["person", "agent"], image: bytes | None = None, **content: Any
    ) -> ChannelMessage:
        """Keeps a message, and tells all who wait for one. Raises ChannelFault."""
        if author == "agent" and content.get("kind", MessageKind.MESSAGE) in WRITTEN:
            fault = self._take(ChannelEffect.REFUSED, ChannelEffect.CUT)
            if fault is not None:
                await asyncio.sleep(fault.delay_s)
                raise ChannelFault(fault)
        # What an agent sends may be as long as it likes.
        if content.get("text") is not None:
            content["text"] = content["text"][:MAX_TEXT_CHARS]
        payload = json.dumps(content.get("payload") or {}, default=str)
        content["payload"] = json.loads(payload) if len(payload) <= MAX_PAYLOAD_CHARS else {}
        message = ChannelMessage(
            id=0,
            channel=self.channel,
            at=self.clock(),
            author=author,
            is_delivered=author == "agent",
            **content,
        )
        number = await self.queries.add(
            self.instance.id,
            self.channel,
            message.model_dump(
                mode="json", exclude={"id", "channel", "is_delivered"}, exclude_defaults=True
            ),
            image,
            is_delivered=message.is_delivered,
        )
        message = message.model_copy(update={"id": number})
        if author == "person" and (fault := self._take(*DELIVERED)) is not None:
            self._injected[number] = fault
            if fault.effect is ChannelEffect.LATE:
                asyncio.get_running_loop().call_later(fault.delay_s, self._deliver_now, number)
        self.messages.append(message)
        self.changes.notify()
        self.events.publish(
            EventType.CHANNEL_MESSAGE,
            self.instance.organization_id,
            self.instance.id,
            channel=self.channel,
            message_id=number,
            author=author,
            message_kind=message.kind,
        )
        self._chars += message.chars
        if len(self.messages) > MAX_MESSAGES + MORE_MESSAGES or self._chars > MAX_CHARS:
            while len(self.messages) > MAX_MESSAGES or self._chars > MAX_CHARS // 2:
                self._chars -= self.messages.popleft().chars
            await self.queries.remove_before(self.instance.id, self.channel, self.messages[0].id)
        return message

    def _take(self, *effects: ChannelEffect) -> FaultDraft | None:
        if not self.faults.are_set:
            return None
        call = Call(
            {FaultKind.CHANNEL},
            instance_id=self.instance.id,
            channel=self.channel,
            effects=effects,
        )
        return self.faults.take(self.instance.organization_id, call)

    def _effect(self, number: int) -> ChannelEffect | None:
        fault = self._injected.get(number)
        return None if fault is None else fault.effect

    def _deliver_now(self, number: int) -> None:
        self._injected.pop(number, None)
        self.changes.notify()

    async def add_typing(self, **content: Any) -> None:
        """Keeps that the agent types, once for each message."""
        if not (self.messages and self.messages[-1].kind is MessageKind.TYPING):
            await self.add("agent", kind=MessageKind.TYPING, **content)

    async def answers_to(
        self,
        message: ChannelMessage,
        wait_s: float,
        progress: Callable[[], AnswerProgress] = lambda: AnswerProgress(),
        earlier: Callable[[], EarlierAnswers] = lambda: EarlierAnswers(),
    ) -> list[ChannelMessage]:
        """What the agent has answered to a message, as a person reads it in the end.

        Waits until all that the model has said is there, or the agent is not busy any more and
        quiet, or `wait_s`. What answers an `earlier` message is left out.
        """

        def answers() -> list[ChannelMessage]:
            after = self.after(message.id)
            found = as_read(each for each in after if each.is_answer and each.chat == message.chat)
            return earlier().left_out_of(found) if found else []

        def newest() -> int:
            return self.messages[-1].id if self.messages else 0

        def has_changed(since: int) -> bool:
            return newest() != since

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                # A first draft is an answer, too.
                is_over = not await self.wait_for(lambda: bool(answers()), wait_s)
                while not is_over:
                    latest, now = newest(), progress()
                    shown = answers()
                    has_draft = any(each.id in self.drafts for each in shown)
                    if not (now.is_busy or has_draft) and now.is_whole(shown):
                        break
                    quiet_s = UNFINISHED_QUIET_S if now.text else ANSWER_QUIET_S
                    has_more = await self.wait_for(partial(has_changed, latest), quiet_s)
                    is_over = not (now.is_busy or has_more) or self.shutdown.has_begun
        return answers()

    async def clear(self) -> None:
        """Removes all messages."""
        if self.messages:
            await self.queries.clear(self.instance.id, self.channel, self.messages[-1].id)
            self.messages.clear()
            self._injected.clear()
            self._chars = 0
            self.changes.notify()

    def find(self, number: int) -> ChannelMessage | None:
        """The kept message with a number."""
        return next((each for each in self.messages if each.id == number), None)

    async def image(self, number: int) -> bytes | None:
        """The image of the kept message with a number; None if there is none."""
        # A number of an agent's may be larger than the database can take.
        if self.find(number) is None:
            return None
        return await self.queries.image(self.instance.id, self.channel, number)

    def after(self, number: int) -> list[ChannelMessage]:
        """The kept messages with a higher number, oldest first."""
        return list(reversed(list(_newer(reversed(self.messages), number))))

    async def undelivered(self, wait_s: float, after: int = 0) -> list[ChannelMessage]:
        """What people wrote and the agent has not fetched; waits if there is nothing.

        `after` leaves out what has been sent, but not acknowledged. Raises ChannelFault.
        """

        def waiting() -> list[ChannelMessage]:
            deliverable = self.deliverable(self._latest_sent(after))
            return [each for each in deliverable if not each.is_delivered]

        await self.wait_for(lambda: bool(waiting()), wait_s)
        return waiting()

    def deliverable(self, after: int = 0) -> list[ChannelMessage]:
        """The messages with a higher number that the agent may get, as injected faults have it.

        Raises ChannelFault.
        """
        found: list[ChannelMessage] = []
        postponed: list[ChannelMessage] = []
        for each in self.after(after):
            effect = self._effect(each.id)
            if effect is ChannelEffect.DISCONNECT:
                raise ChannelFault(self._injected.pop(each.id))
            if effect is ChannelEffect.LATE:
                # Those after it wait, too: an agent acknowledges all up to a number.
                break
            if effect is ChannelEffect.OUT_OF_ORDER or (postponed and each.author == "agent"):
                postponed.append(each)
                continue
            found += [each, each] if effect is ChannelEffect.TWICE else [each]
            found += postponed
            postponed.clear()
        return found

    def _latest_sent(self, number: int) -> int:
        """The highest number among those that were sent before this message and with it."""
        if self._effect(number) is not ChannelEffect.OUT_OF_ORDER:
            return number
        later = (each.id for each in self.messages if not each.is_delivered and each.id > number)
        in_order = (each for each in later if self._effect(each) is not ChannelEffect.OUT_OF_ORDER)
        return next(in_order, number)

    async def mark_delivered(self, up_to: int) -> None:
        """The agent has fetched all messages up to this number."""
        up_to = self._latest_sent(up_to)
        fetched = {each.id for each in self.messages if not each.is_delivered and each.id <= up_to}
        if fetched:
            await self.queries.mark_delivered(fetched)
            for number in fetched:
                self._injected.pop(number, None)
            for at, each in enumerate(self.messages):
                if each.id in fetched:
                    self.messages[at] = each.model_copy(update={"is_delivered": True})
            self.changes.notify()

    async def wait_for(self, is_so: Callable[[], bool], wait_s: float) -> bool:
        """As the function of this name, for a change of this mailbox."""
        return await wait_for([self], is_so, wait_s)

    def person_of(self, number_of_name: Callable[[str], str], number: str) -> str | None:
        """The name of a person whom the stand-in knows by a number."""
        names = (each.person for each in reversed(self.messages) if each.person)
        return next((name for name in names if number_of_name(name) == number), None)

    def group_of(self, number_of_name: Callable[[str], str], number: str) -> str | None:
        """The name of a group that the stand-in knows by a number."""
        names = (each.group for each in reversed(self.messages) if each.group)
        return next((name for name in names if number_of_name(name) == number), None)


def as_read(messages: Iterable[ChannelMessage]) -> list[ChannelMessage]:
    """The messages with later edits made, and without those that were deleted."""
    shown: dict[int, ChannelMessage] = {}
    for each in messages:
        if each.kind is MessageKind.MESSAGE:
            shown[each.id] = each
        elif each.of in shown and each.kind is MessageKind.EDIT:
            shown[each.of] = shown[each.of].model_copy(update={"text": each.text})
        elif each.kind is MessageKind.DELETION:
            shown.pop(each.of or 0, None)
    return list(shown.values())


def _newer(latest_first: Iterable[ChannelMessage], number: int) -> Iterator[ChannelMessage]:
    for each in latest_first:
        if each.id <= number:
            return
        yield each


async def wait_for(mailboxes: Sequence[Mailbox], is_so: Callable[[], bool], wait_s: float) -> bool:
    """Waits for a change of a mailbox after which it is so.

    False after `wait_s`, or if the server stops.
    """
    changed = asyncio.Event()
    try:
        with contextlib.ExitStack() as stack:
            for each in mailboxes:
                stack.enter_context(each.changes.watching(changed))
            shutdown = mailboxes[0].shutdown
            stack.enter_context(shutdown.on_shutdown(changed.set))
            async with asyncio.timeout(wait_s):
                while not is_so():
                    if shutdown.has_begun:
                        return False
                    await changed.wait()
                    changed.clear()
    except TimeoutError:
        return False
    return True
