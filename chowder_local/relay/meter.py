"""Reads from a provider's answer, as it passes by, how many tokens it cost (pure)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_BYTES = 8 * 1024
"""More than any provider's usage is long; what goes on beyond that is none."""
COUNT_MAX = 1 << 40
"""Nobody's call has so many tokens, and a database's integers end somewhere."""

_MARKS = {
    ModelProvider.ANTHROPIC: b'"usage"',
    ModelProvider.OPENAI: b'"usage"',
    ModelProvider.GEMINI: b'"usageMetadata"',
}
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Usage:
    """Tokens of a call; those of the cache are among those of the input."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    long_cache_write_tokens: int = 0
    """Those of the writes that are kept for an hour, which costs more."""
    output_tokens: int = 0


class Meter:
    """Follows one answer, streamed or whole, piece by piece; what counts is told last.

    Nothing is taken apart but the one object that tells the usage. Text cannot look like it:
    within a JSON string the quotes of its name would be escaped.
    """

    def __init__(self, provider: ModelProvider) -> None:
        self._mark = _MARKS[provider]
        self._read = _READERS[provider]
        self._said: dict[str, Any] = {}
        self._held = b""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        if self._held:
            self._look(self._held + chunk)
        elif self._mark in chunk:
            self._look(chunk)
        elif not chunk.endswith((b"\n", b"}")):
            # Nearly every event ends so; what does not may end within a mark.
            self._held = _beginning(chunk, self._mark)

    @property
    def usage(self) -> Usage | None:
        """What was told so far; None if nothing was."""
        if not self._said:
            return None
        try:
            return self._read(self._said)
        except (ValueError, TypeError, AttributeError):
            return None

    def _look(self, seen: bytes) -> None:
        at = 0
        while (found := seen.find(self._mark, at)) >= 0:
            at = found + len(self._mark)
            value, is_cut = _object_at(seen, at)
            if value is not None:
                # Anthropic tells the input when it begins and the output when it ends.
                self._said |= {name: each for name, each in value.items() if each is not None}
            elif is_cut and len(seen) - found <= LONGEST_BYTES and self._mark not in seen[at:]:
                self._held = seen[found:]
                return
        self._held = _beginning(seen[at:], self._mark)


def _object_at(seen: bytes, at: int) -> tuple[dict[str, Any] | None, bool]:
    """The object behind a name, if there is one, and whether there may be with more bytes."""
    colon = _COLON.match(seen, at)
    if colon is None:
        return None, not seen[at:].strip()
    begins = colon.end()
    if seen[begins : begins + 1] != b"{":
        return None, begins == len(seen)
    try:
        value, _ = _DECODER.raw_decode(seen[begins : begins + LONGEST_BYTES].decode("latin-1"))
    except ValueError:
        return None, True
    except RecursionError:
        return None, False
    return value, False


def _beginning(seen: bytes, mark: bytes) -> bytes:
    """The end of what was seen, if a mark may begin there."""
    for length in range(min(len(mark) - 1, len(seen)), 0, -1):
        if mark.startswith(seen[-length:]):
            return seen[-length:]
    return b""


def _anthropic(said: Mapping[str, Any]) -> Usage:
    read = _count(said, "cache_read_input_tokens")
    written = _count(said, "cache_creation_input_tokens")
    kinds = said.get("cache_creation") or {}
    return Usage(
        # Its own count leaves out what has to do with the cache.
        input_tokens=_count(said, "input_tokens", is_needed=True) + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        long_cache_write_tokens=min(written, _count(kinds, "ephemeral_1h_input_tokens")),
        output_tokens=_count(said, "output_tokens"),
    )


def _openai(said: Mapping[str, Any]) -> Usage:
    # The Responses API, then Chat Completions and embeddings.
    name = "input_tokens" if "input_tokens" in said else "prompt_tokens"
    details = said.get(f"{name}_details") or {}
    return Usage(
        input_tokens=_count(said, name, is_needed=True),
        cached_tokens=_count(details, "cached_tokens"),
        cache_write_tokens=_count(details, "cache_write_tokens"),
        output_tokens=_count(said, "output_tokens") + _count(said, "completion_tokens"),
    )


def _gemini(said: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=_count(said, "promptTokenCount", is_needed=True)
        + _count(said, "toolUsePromptTokenCount"),
        cached_tokens=_count(said, "cachedContentTokenCount"),
        # What it thinks is counted apart, and paid like the rest.
        output_tokens=_count(said, "candidatesTokenCount") + _count(said, "thoughtsTokenCount"),
    )


def _count(said: Mapping[str, Any], name: str, *, is_needed: bool = False) -> int:
    """A number of tokens; what is none is no usage at all. Raises ValueError."""
    count = said.get(name)
    if count is None and not is_needed:
        return 0
    if not isinstance(count, int) or not 0 <= count <= COUNT_MAX:
        raise ValueError(f"{name} is no number of tokens")
    return int(count)


_READERS: Mapping[ModelProvider, Callable[[Mapping[str, Any]], Usage]] = {
    ModelProvider.ANTHROPIC: _anthropic,
    ModelProvider.OPENAI: _openai,
    ModelProvider.GEMINI: _gemini,
}
