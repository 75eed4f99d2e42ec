"""The file in an agent's home that tells which messages it was seeded with (pure).

It is there, and not with the server or the seeding client, because it has to go where the
conversations go: it is gone with the agent's volume, is in a copy of it, and is found from any
machine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = ".chowder-seed.json"
"""Beside the workspace, where the agent does not look by itself."""

Sent = dict[str | None, tuple[str, ...]]


def serialize(sent: Mapping[str | None, tuple[str, ...]]) -> bytes:
    """The file's content, for digests of messages by conversation."""
    sessions = [{"name": name, "messages": list(digests)} for name, digests in sent.items()]
    return json.dumps({"sessions": sessions}, indent=2).encode()


def parse(content: bytes | None) -> Sent:
    """What was sent: nothing, if there is no file. Raises ValueError for a spoilt one."""
    if content is None:
        return {}
    try:
        sessions = json.loads(content)["sessions"]
        return {each["name"]: tuple(map(str, each["messages"])) for each in sessions}
    except (ValueError, TypeError, KeyError) as broken:
        raise ValueError(f"{PATH} in its home cannot be read") from broken
