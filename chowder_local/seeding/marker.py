"""The marker: a file in an agent's home with the messages that it was seeded with (pure).

It is in the home because it belongs to the sessions there: it is copied and deleted with them, and
every machine that seeds finds it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = ".chowder-seed.json"
"""Beside the workspace, because an agent reads the workspace by itself."""

Sent = dict[str | None, tuple[str, ...]]


def serialize(sent: Mapping[str | None, tuple[str, ...]]) -> bytes:
    """The file's content, from digests of messages by session name."""
    sessions = [{"name": name, "messages": list(digests)} for name, digests in sent.items()]
    return json.dumps({"sessions": sessions}, indent=2).encode()


def parse(content: bytes | None) -> Sent:
    """Digests of messages by session name. Raises ValueError if the file is invalid."""
    if content is None:
        return {}
    try:
        sessions = json.loads(content)["sessions"]
        return {each["name"]: tuple(map(str, each["messages"])) for each in sessions}
    except (ValueError, TypeError, KeyError) as broken:
        raise ValueError(f"{PATH} in its home cannot be read") from broken
