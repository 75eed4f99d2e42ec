"""What the page says of a channel: its state in words, and what its form asks for (pure)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.core import untrusted_json
from chowder_local.openclaw.channel_table import ConnectionType, missing_fields
from chowder_local.openclaw.config.edits import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.channels import ChannelState
    from chowder_local.openclaw.qr_login import QrLogin

TITLES = {
    "whatsapp": "WhatsApp",
    "googlechat": "Google Chat",
    "msteams": "Microsoft Teams",
    "line": "LINE",
}
"""Names that are more than one word with a capital."""
FACTS = {"accountId": "Account", "name": "Name", "username": "Name", "e164": "Number", "mode": "By"}
# What comes out of a sandbox is a picture, or is not shown.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


class Seen(BaseModel):
    """Which states a page shows, by their digests."""

    seen: str = Field("", max_length=1024)

    @property
    def digests(self) -> dict[str, str]:
        """By channel."""
        pairs = (each.partition(":") for each in self.seen.split(","))
        return {name: digest for name, _, digest in pairs}


@dataclass(frozen=True)
class Question:
    """A field of a channel's form; a secret has no value here, whatever the agent has."""

    name: str
    description: str
    is_secret: bool
    is_known: bool
    value: str

    @property
    def label(self) -> str:
        """The name as people write it."""
        words = self.name.replace("_", " ").capitalize()
        return words.replace(" url", " URL").replace(" id", " ID")


@dataclass(frozen=True)
class Line:
    """A channel of the list; `status` is the one of an instance that looks the same."""

    channel: Channel
    questions: tuple[Question, ...]
    status: str
    words: str
    reason: str | None
    facts: tuple[tuple[str, str], ...]
    is_enabled: bool
    qr: str | None
    scan: str | None
    is_scan_over: bool

    @property
    def title(self) -> str:
        """The messenger's own name."""
        return TITLES.get(self.channel.name, self.channel.name.capitalize())

    @property
    def is_interactive(self) -> bool:
        """Whether a person with a telephone connects it."""
        return self.channel.connection_type is ConnectionType.INTERACTIVE

    @property
    def is_known(self) -> bool:
        """Whether the agent has all that its form asks for."""
        return all(each.is_known for each in self.questions)

    @property
    def is_coming(self) -> bool:
        """Whether it may be another in a moment."""
        return self.status == "provisioning"

    @property
    def digest(self) -> str:
        """Another one for each state that looks different."""
        look = (
            self.status, self.words, self.reason, self.facts, self.is_enabled, self.qr, self.scan,
            self.is_scan_over,
        )  # fmt: skip
        return hashlib.sha256(repr(look).encode("utf-8", "replace")).hexdigest()[:12]


def seen(lines: Iterable[Line]) -> str:
    """What a page says of what it shows."""
    return ",".join(f"{each.channel.name}:{each.digest}" for each in lines)


def line_of(channel: Channel, state: ChannelState | None, scan: QrLogin | None) -> Line:
    """A channel as the page has it; without a state nothing is known of it."""
    status, words = _standing(state, scan)
    is_shown = scan is not None and (state is None or not state.is_connected)
    picture = scan.qr if scan is not None and is_shown and not scan.is_over else ""
    return Line(
        channel=channel,
        questions=tuple(_questions(channel, state)),
        status=status,
        words=words,
        reason=_reason(state, scan),
        facts=() if state is None else tuple(_facts(state)),
        is_enabled=state is not None and state.is_enabled,
        qr=picture if _PICTURE.fullmatch(picture) else None,
        scan=scan.message if scan is not None and is_shown else None,
        is_scan_over=scan is not None and is_shown and scan.is_over,
    )


def _standing(state: ChannelState | None, scan: QrLogin | None) -> tuple[str, str]:
    if state is None or not state.is_enabled:
        is_kept = state is not None and state.configured
        return "stopped", "switched off" if is_kept else "not set up"
    if state.is_connected:
        return "running", "connected"
    if scan is not None:
        return ("stopped", "not scanned") if scan.is_over else ("provisioning", "waits for a scan")
    if state.is_refused or not state.account:
        return "error", "not connected"
    if state.account.get("linked") is False:
        return "stopped", "not linked"
    return "provisioning", "trying again" if state.has_failed else "connecting"


def _reason(state: ChannelState | None, scan: QrLogin | None) -> str | None:
    # As long as there is a code to scan, nothing else is wrong with it.
    if state is None or not state.is_enabled or scan is not None:
        return None
    return state.reason


def _facts(state: ChannelState) -> Iterable[tuple[str, str]]:
    if not state.is_enabled:
        return
    told = dict(state.account)
    for part in ("self", "bot", "probe"):
        inner = untrusted_json.object_of(told.get(part))
        told = inner | untrusted_json.object_of(inner.get("bot")) | told
    for name, title in FACTS.items():
        if value := untrusted_json.text_of(told.get(name)):
            yield title, value


def _questions(channel: Channel, state: ChannelState | None) -> Iterable[Question]:
    configured: dict[str, Any] = {} if state is None else dict(state.configured)
    lacking = missing_fields(channel, configured)
    for each in channel.required:
        value = configured.get(each.openclaw_key)
        yield Question(
            name=each.name,
            description=each.description,
            is_secret=each.is_secret,
            is_known=each.name not in lacking,
            value="" if each.is_secret or value == HIDDEN else untrusted_json.text_of(value),
        )
