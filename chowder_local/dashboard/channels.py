"""An instance's channels: states, forms, connecting and pairing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.agent_contents import ChannelConnecting, Pairing
from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.dashboard.pages import (
    agent_part,
    dialog,
    form,
    instance_page,
    notice,
    parse_form,
    part,
    parts,
)
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import instance_of, running_instance_of, services
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
"""The names that differ from the capitalized word."""
FACTS = {"accountId": "Account", "name": "Name", "username": "Name", "e164": "Number", "mode": "By"}
# A sandbox may send anything; the page shows only a PNG image.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


class StatesQuery(BaseModel):
    seen: str = Field("", max_length=1024)
    """The states on the page, as `seen` encodes them."""

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each channel's state, by channel."""
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
        label = self.name.replace("_", " ").capitalize()
        return label.replace(" url", " URL").replace(" id", " ID")


@dataclass(frozen=True)
class StateView:
    """A channel's state as the page shows it.

    `status` is the instance status whose style it shares; `text` names the state.
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
    def from_state(cls, state: ChannelState | None, scan: QrLogin | None) -> StateView:
        status, text = _status(state, scan)
        pending = scan if state is None or not state.is_connected else None
        picture = pending.qr if pending is not None and not pending.is_over else ""
        is_enabled = state is not None and state.is_enabled
        return cls(
            status=status,
            text=text,
            # While a code waits for its scan, a failed connection is no error.
            reason=state.reason if state is not None and is_enabled and scan is None else None,
            facts=tuple(_facts(state.account)) if state is not None and is_enabled else (),
            is_enabled=is_enabled,
            qr=picture if _PICTURE.fullmatch(picture) else None,
            scan=pending.message if pending is not None else None,
            is_scan_over=pending is not None and pending.is_over,
        )

    @property
    def is_changing(self) -> bool:
        """Whether the state is expected to change soon."""
        return self.status == "provisioning"

    @property
    def digest(self) -> str:
        """Differs whenever the page shows the state differently."""
        return hashlib.sha256(repr(astuple(self)).encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True)
class ChannelRow:
    channel: Channel
    view: StateView
    questions: tuple[Question, ...]

    @classmethod
    def from_state(
        cls, channel: Channel, state: ChannelState | None, scan: QrLogin | None
    ) -> ChannelRow:
        configured = {} if state is None else dict(state.configured)
        view = StateView.from_state(state, scan)
        return cls(channel, view, tuple(_questions(channel, configured)))

    @property
    def title(self) -> str:
        return title_of(self.channel.name)

    @property
    def is_interactive(self) -> bool:
        """Whether a person connects it by scanning a code."""
        return self.channel.connection_type is ConnectionType.INTERACTIVE

    @property
    def is_known(self) -> bool:
        """Whether the agent has a value for every field of the form."""
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
    """The states that differ from those on the page; the page's forms stay."""
    await instance_of(request)
    digests = parse_query(request, StatesQuery).digests

    async def render(instance: Instance) -> Response:
        rows = await _rows(request, instance)
        changed = [each for each in rows if digests.get(each.channel.name) != each.view.digest]
        if not changed:
            return Response(status_code=204, headers=HEADERS)
        return parts(
            part(request, MACROS, "states", changed, is_announced=True),
            _poll(request, instance, rows, oob=True),
        )

    return await agent_part(request, "/channels/list", render)


async def connect(request: Request) -> Response:
    """Enables a channel with the form's fields, merged into the agent's configuration."""
    instance, channel = await running_instance_of(request), _channel(request)
    sent = validated(ChannelConnecting, {"config": await form(request)}, "body")
    connection = await services(request).channels.connect(instance, channel, sent.config)
    text = connection.message
    if connection.status is ConnectionStatus.AWAITING_SCAN:
        text = f"Scan the code to connect {title_of(channel.name)}."
    return await _changed(request, instance, channel, text)


async def pair(request: Request) -> Response:
    """Approves the sender that received the code."""
    instance, channel = await running_instance_of(request), _channel(request)
    sent = await parse_form(request, Pairing)
    message = await services(request).channels.pair(instance, channel, sent.code)
    return await _changed(request, instance, channel, message)


async def confirm_disconnect(request: Request) -> Response:
    instance, channel = await instance_of(request), _channel(request)
    return dialog(request, MACROS, "confirm_disconnect", instance, title_of(channel.name))


async def disconnect(request: Request) -> Response:
    """Disables a channel; its credentials are kept."""
    instance, channel = await running_instance_of(request), _channel(request)
    await services(request).channels.disconnect(instance, channel)
    return await _changed(request, instance, channel, f"{title_of(channel.name)} is switched off.")


async def _rows(request: Request, instance: Instance) -> list[ChannelRow]:
    channels = services(request).channels
    rows = []
    for state in await channels.states(instance):
        channel = CHANNELS[state.channel]
        rows.append(ChannelRow.from_state(channel, state, channels.qr_login(instance, channel)))
    return rows


async def _changed(request: Request, instance: Instance, channel: Channel, text: str) -> Response:
    """The channel with its form, and the states of all other channels."""
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
    """The element that polls for changes of the states on the page."""
    is_changing = any(each.view.is_changing for each in rows)
    return part(request, MACROS, "polling", instance, seen(rows), is_changing, oob=oob)


def seen(rows: Iterable[ChannelRow]) -> str:
    """The states on the page, encoded for the query `StatesQuery`."""
    return ",".join(f"{each.channel.name}:{each.view.digest}" for each in rows)


def _channel(request: Request) -> Channel:
    channel = CHANNELS.get(request.path_params["channel"])
    if channel is None:
        raise ChannelNotFound
    return channel


def title_of(channel: str) -> str:
    return TITLES.get(channel, channel.capitalize())


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
    members = dict(account)
    for name in ("self", "bot", "probe"):
        inner = untrusted_json.object_of(members.get(name))
        members = inner | untrusted_json.object_of(inner.get("bot")) | members
    for name, title in FACTS.items():
        if value := untrusted_json.text_of(members.get(name)):
            yield title, value


def _questions(channel: Channel, configured: dict[str, Any]) -> Iterable[Question]:
    missing = missing_fields(channel, configured)
    for each in channel.required:
        value = configured.get(each.openclaw_key)
        yield Question(
            name=each.name,
            description=each.description,
            is_secret=each.is_secret,
            is_known=each.name not in missing,
            value="" if each.is_secret or value == HIDDEN else untrusted_json.text_of(value),
        )
