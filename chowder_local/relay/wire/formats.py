"""The table of providers' formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.relay.wire.anthropic import Anthropic
from chowder_local.relay.wire.gemini import Gemini
from chowder_local.relay.wire.openai import OpenAI

if TYPE_CHECKING:
    from chowder_local.relay.wire.wire_format import WireFormat

_OPENAI = OpenAI()
WIRE_FORMATS: dict[str, WireFormat] = {
    each.provider: each for each in (Anthropic(), _OPENAI, Gemini())
}


def wire_format(provider: str) -> WireFormat:
    """The format of a provider's calls; named endpoints use OpenAI's."""
    return WIRE_FORMATS.get(provider, _OPENAI)
