"""An instance's channels: their states, their forms, connecting and pairing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.channels import ChannelConnecting, Pairing
from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.dashboard.forms import form, parse_form
from chowder_local.dashboard.pages import agent_part, dialog, instance_page, notice, part, parts
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, running, services
from chowder_local.openclaw.channel_table import CHANNELS, ConnectionType, missing_fields
from chowder_local.openclaw.channels import ConnectionStatus
from chowder_local.openclaw.config.edits import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.channels import ChannelState
    from chowder_local.openclaw.qr_login import QrLogin

MACROS = "_channels.html"
TITLES = {
    "whatsapp": "WhatsApp",
    "googlechat": "Google Chat",
    "msteams": "Microsoft Teams",
    "line": "LINE",
}
"""The names that are more than one capitalized word."""
FACTS = {"accountId": "Account", "name": "Name", "username": "Name", "e164": "Number", "mode": "By"}
# What a sandbox sends is shown only if it is a picture.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


class Seen(BaseModel):
    seen: str = Field("", max_length=1024)
    """The states that a page shows, as `seen` of the rows gives them."""

    @property
    def digests(self) -> dict[str, str]:
        """By channel."""
        pairs = (each.partition(":") for each in self.seen.split(","))
        return {name: digest for name, _, digest in pairs}


@dataclass(frozen=True)
class Question:
    """A field of a channel's form; the value of a secret is always empty."""

    name: str
    description: str
    is_secret: bool
    is_known: bool
    value: str

    @property
    def label(self) -> str:
        words = self.name.replace("_", " ").capitalize()
        return words.replace(" url", " URL").replace(" id", " ID")


@dataclass(frozen=True)
class Standing:
    """What the page shows of a channel's state.

    `status` is the status of an instance that looks the same; `text` names the state.
    """

    status: str
    text: str
    reason: str | None
    facts: tuple[tuple[str, str], ...]
    is_enabled: bool
    qr: str | None
    scan: str | None
    is_scan_over: bool

    @classmethod
    def of(cls, state: ChannelState | None, scan: QrLogin | None) -> Standing:
        """Without a state nothing is known of the channel."""
        status, text = _status(state, scan)
        shown = scan if state is None or not state.is_connected else None
        picture = shown.qr if shown is not None and not shown.is_over else ""
        is_enabled = state is not None and state.is_enabled
        return cls(
            status=status,
            text=text,
            # While there is a code to scan, nothing is wrong.
            reason=state.reason if state is not None and is_enabled and scan is None else None,
            facts=tuple(_facts(state.account)) if state is not None and is_enabled else (),
            is_enabled=is_enabled,
            qr=picture if _PICTURE.fullmatch(picture) else None,
            scan=shown.message if shown is not None else None,
            is_scan_over=shown is not None and shown.is_over,
        )

    @property
    def is_changing(self) -> bool:
        """Whether it is expected to change soon."""
        return self.status == "provisioning"

    @property
    def digest(self) -> str:
        """Differs for each state that looks different."""
        return hashlib.sha256(repr(astuple(self)).encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True)
class ChannelRow:
    """A channel of the list."""

    channel: Channel
    standing: Standing
    questions: tuple[Question, ...]

    @classmethod
    def of(cls, channel: Channel, state: ChannelState | None, scan: QrLogin | None) -> ChannelRow:
        configured = {} if state is None else dict(state.configured)
        return cls(channel, Standing.of(state, scan), tuple(_questions(channel, configured)))

    @property
    def title(self) -> str:
        return _title(self.channel)

    @property
    def is_interactive(self) -> bool:
        """Whether a person connects it by scanning a code."""
        return self.channel.connection_type is ConnectionType.INTERACTIVE

    @property
    def is_known(self) -> bool:
        """Whether the agent has all that the form asks for."""
        return all(each.is_known for each in self.questions)


async def show(request: Request) -> Response:
    return await instance_page(
        request, "channels.html", await instance_of(request), tab="/channels"
    )


async def index(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        rows = await _rows(request, instance)
        return parts(
            part(request, MACROS, "listing", instance, rows, _poll(request, instance, rows))
        )

    return await agent_part(request, "/channels/list", render)


async def poll(request: Request) -> Response:
    """The states that differ from those that the page shows; its forms stay as they are."""
    await instance_of(request)
    known = parse_query(request, Seen).digests

    async def render(instance: Instance) -> Response:
        rows = await _rows(request, instance)
        changed = [each for each in rows if known.get(each.channel.name) != each.standing.digest]
        if not changed:
            return Response(status_code=204, headers=HEADERS)
        return parts(
            part(request, MACROS, "states", changed, is_announced=True),
            _poll(request, instance, rows, oob=True),
        )

    return await agent_part(request, "/channels/list", render)


async def connect(request: Request) -> Response:
    """Enables a channel with the form's fields, merged into what the agent has."""
    instance, channel = running(await instance_of(request)), _channel(request)
    sent = validated(ChannelConnecting, {"config": await form(request)}, "body")
    connection = await services(request).channels.connect(instance, channel, sent.config)
    text = connection.message
    if connection.status is ConnectionStatus.AWAITING_SCAN:
        text = f"{_title(channel)} waits for the code to be scanned."
    return await _changed(request, instance, channel, text)


async def pair(request: Request) -> Response:
    """Approves the sender who was given the code."""
    instance, channel = running(await instance_of(request)), _channel(request)
    sent = await parse_form(request, Pairing)
    message = await services(request).channels.pair(instance, channel, sent.code)
    return await _changed(request, instance, channel, message)


async def confirm_disconnect(request: Request) -> Response:
    instance, channel = await instance_of(request), _channel(request)
    return dialog(request, MACROS, "confirm_disconnect", instance, _title(channel))


async def disconnect(request: Request) -> Response:
    """Disables a channel; its credentials are kept."""
    instance, channel = running(await instance_of(request)), _channel(request)
    await services(request).channels.disconnect(instance, channel)
    return await _changed(request, instance, channel, f"{_title(channel)} is switched off.")


async def _rows(request: Request, instance: Instance) -> list[ChannelRow]:
    channels = services(request).channels
    rows = []
    for state in await channels.states(instance):
        channel = CHANNELS[state.channel]
        rows.append(ChannelRow.of(channel, state, channels.qr_login(instance, channel)))
    return rows


async def _changed(request: Request, instance: Instance, channel: Channel, text: str) -> Response:
    """The channel with its form, and the states of all others."""
    rows = await _rows(request, instance)
    (own,) = (each for each in rows if each.channel is channel)
    return notice(
        request,
        text,
        part(request, MACROS, "channel_row", instance, own, oob=True, is_open=True),
        part(request, MACROS, "states", [each for each in rows if each is not own]),
        _poll(request, instance, rows, oob=True),
    )


def _poll(
    request: Request, instance: Instance, rows: Sequence[ChannelRow], *, oob: bool = False
) -> Markup:
    """What has the page ask for changes of what it shows."""
    is_changing = any(each.standing.is_changing for each in rows)
    return part(request, MACROS, "polling", instance, seen(rows), is_changing, oob=oob)


def seen(rows: Iterable[ChannelRow]) -> str:
    """The states that a page shows, for the query `Seen`."""
    return ",".join(f"{each.channel.name}:{each.standing.digest}" for each in rows)


def _channel(request: Request) -> Channel:
    channel = CHANNELS.get(request.path_params["channel"])
    if channel is None:
        raise ChannelNotFound
    return channel


def _title(channel: Channel) -> str:
    return TITLES.get(channel.name, channel.name.capitalize())


def _status(state: ChannelState | None, scan: QrLogin | None) -> tuple[str, str]:
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


def _facts(account: Any) -> Iterable[tuple[str, str]]:
    known = dict(account)
    for member in ("self", "bot", "probe"):
        inner = untrusted_json.object_of(known.get(member))
        known = inner | untrusted_json.object_of(inner.get("bot")) | known
    for name, title in FACTS.items():
        if value := untrusted_json.text_of(known.get(name)):
            yield title, value


def _questions(channel: Channel, configured: dict[str, Any]) -> Iterable[Question]:
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
