"""What the inspector's list says of a model call, and which calls it shows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field

from chowder_local.dashboard.instance_names import instance_names
from chowder_local.dashboard.retries import Former, former_of, is_failed
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.relay.call_log import LoggedCall

WORDS_MAX = 160
MAIN = "main"
OWN = "its own"
"""What OpenClaw asks by itself, such as for a summary, is of no session."""


class CallStatus(StrEnum):
    """How far a call has come."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"


class CallsWanted(BaseModel):
    """Which calls the list is to show."""

    q: str = Field("", max_length=128)
    instance: str = Field("", max_length=64)
    model: str = Field("", max_length=200)
    status: Annotated[CallStatus | None, BeforeValidator(lambda given: given or None)] = None
    before: str | None = Field(None, max_length=64)
    since: str | None = Field(None, max_length=64)
    """The latest that the page has, for who follows it."""

    def address(self, path: str = "/inspector", **more: str | None) -> str:
        """The page, or another address, with these and other wishes in its query."""
        wishes: dict[str, str | None] = {
            "q": self.q, "instance": self.instance, "model": self.model, "status": self.status,
        } | more  # fmt: skip
        query = urlencode({name: value for name, value in wishes.items() if value})
        return f"{path}?{query}" if query else path

    def shows(self, line: CallLine) -> bool:
        """Whether a line is of the list."""
        if self.status not in {None, line.status} or self.model not in {"", line.model}:
            return False
        text = " ".join(filter(None, (line.words, line.model, line.source, line.error,
                                      line.session, line.instance_name)))  # fmt: skip
        return self.q.lower() in text.lower()


@dataclass(frozen=True)
class CallLine:
    """A line of the list."""

    call: LoggedCall
    instance_name: str
    session: str
    model: str
    words: str
    """What the person said last, or its beginning."""
    former: Former

    @property
    def source(self) -> str:
        """Who has answered."""
        return self.call.source

    @property
    def error(self) -> str | None:
        """What the client was told if it failed."""
        return self.call.error

    @property
    def is_failed(self) -> bool:
        """Whether it came to nothing; an error that a script has answered is one as well."""
        return is_failed(self.call)

    @property
    def status(self) -> CallStatus:
        """How far it has come."""
        if self.call.outcome is None:
            return CallStatus.RUNNING
        return CallStatus.FAILED if self.is_failed else CallStatus.OK

    @property
    def attempt(self) -> int:
        """Which attempt it is, of OpenClaw's and of the relay's own; 1 is the first."""
        return 1 + self.former.number + len(self.call.tries)


async def call_lines(request: Request, calls: Sequence[LoggedCall]) -> list[CallLine]:
    """A line for each."""
    names = await instance_names(request, {each.instance_id for each in calls if each.instance_id})
    turns = _turns(request, calls)
    # Each is read once, but that takes a millisecond.
    words = await asyncio.to_thread(
        lambda: [(each.last_message or "")[:WORDS_MAX] for each in calls]
    )
    formers = await asyncio.to_thread(
        lambda: [former_of(each, turns.get(each.turn_id, [])) for each in calls]
    )
    return [
        CallLine(
            call=each,
            instance_name=names.get(each.instance_id, ""),
            session=session_of(request, each),
            model=each.model or each.provider,
            words=said,
            former=former,
        )
        for each, said, former in zip(calls, words, formers, strict=True)
    ]


def session_of(request: Request, call: LoggedCall) -> str:
    """What the call's conversation is called by people."""
    if call.session_key is None or call.instance_id is None:
        return OWN
    found = services(request).session_names.of(call.instance_id, call.session_key)
    if found is None:
        return call.session_key
    return MAIN if found.name is None else found.name


def _turns(request: Request, calls: Sequence[LoggedCall]) -> dict[str | None, list[LoggedCall]]:
    """All calls of the turns that some calls are of, the latest first."""
    wanted = {each.turn_id for each in calls if each.turn_id is not None}
    turns: dict[str | None, list[LoggedCall]] = {each: [] for each in wanted}
    for each in services(request).exchanges.of_organization(caller(request).organization_id):
        if each.turn_id in wanted:
            turns[each.turn_id].append(each)
    return turns
