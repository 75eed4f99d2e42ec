"""What the inspector's list says of a model call, and which calls it shows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from chowder_local.errors.requests import InstanceNotFound
from chowder_local.web.state import caller, services

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.requests import Request

    from chowder_local.domain import InstanceId
    from chowder_local.relay.exchanges import Exchange

WORDS_MAX = 160
MAIN = "main"
OWN = "its own"
"""What OpenClaw asks by itself, such as for a summary, is of no session."""


class CallsWanted(BaseModel):
    """Which calls the list is to show."""

    q: str = Field("", max_length=128)
    instance: str = Field("", max_length=64)
    failed: bool = False
    before: str | None = Field(None, max_length=64)
    since: str | None = Field(None, max_length=64)
    """The latest that the page has, for who follows it."""

    def address(self, path: str = "/inspector", **more: str | None) -> str:
        """The page, or another address, with these and other wishes in its query."""
        wishes: dict[str, str | None] = {
            "q": self.q, "instance": self.instance, "failed": "true" if self.failed else None,
        } | more  # fmt: skip
        query = urlencode({name: value for name, value in wishes.items() if value})
        return f"{path}?{query}" if query else path

    def shows(self, line: CallLine) -> bool:
        """Whether a line is of the list."""
        if self.failed and not line.is_failed:
            return False
        text = " ".join(filter(None, (line.words, line.model, line.source, line.error,
                                      line.session, line.instance_name)))  # fmt: skip
        return self.q.lower() in text.lower()


@dataclass(frozen=True)
class CallLine:
    """A line of the list."""

    call: Exchange
    instance_name: str
    session: str
    model: str
    words: str
    """What the person said last, or its beginning."""

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
        return self.call.error is not None or (self.call.status or 0) >= 400


async def call_lines(request: Request, calls: Sequence[Exchange]) -> list[CallLine]:
    """A line for each."""
    names = await _names(request, {each.instance_id for each in calls if each.instance_id})
    # Each is read once, but that takes a millisecond.
    words = await asyncio.to_thread(lambda: [(each.words or "")[:WORDS_MAX] for each in calls])
    return [
        CallLine(
            call=each,
            instance_name=names.get(each.instance_id, ""),
            session=session_of(request, each),
            model=each.model or each.provider,
            words=said,
        )
        for each, said in zip(calls, words, strict=True)
    ]


def session_of(request: Request, call: Exchange) -> str:
    """What the call's conversation is called by people."""
    if call.session_key is None or call.instance_id is None:
        return OWN
    found = services(request).session_names.of(call.instance_id, call.session_key)
    if found is None:
        return call.session_key
    return MAIN if found.name is None else found.name


async def _names(request: Request, ids: Iterable[InstanceId]) -> dict[InstanceId | None, str]:
    names: dict[InstanceId | None, str] = {}
    for each in ids:
        try:
            found = await services(request).lifecycle.instance(
                caller(request).organization_id, each
            )
        except InstanceNotFound:
            names[each] = each[:8]
        else:
            names[each] = found.name
    return names
