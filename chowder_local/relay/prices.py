"""Prices of tokens: the operator's own, and the providers' public lists (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.relay.wire.wire_format import Usage

AS_OF = "2026-11-25"
"""Date of the lists."""

SOURCES = (
    "https://platform.claude.com/docs/en/about-claude/pricing",
    "https://developers.openai.com/api/docs/pricing",
    "https://ai.google.dev/gemini-api/docs/pricing",
)
"""Standard tier, without discounts such as for batches."""

_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """USD for a million tokens. Cache writes without a price cost as much as other input."""

    input: float
    output: float
    cached: float
    cache_write: float | None = None
    long_cache_write: float | None = None

    def cost_usd(self, usage: Usage) -> float:
        written, long_written = usage.cache_write_tokens, usage.long_cache_write_tokens
        write = self.input if self.cache_write is None else self.cache_write
        long_write = write if self.long_cache_write is None else self.long_cache_write
        plain = usage.input_tokens - usage.cached_tokens - written
        return (
            plain * self.input
            + usage.cached_tokens * self.cached
            + (written - long_written) * write
            + long_written * long_write
            + usage.output_tokens * self.output
        ) / _MILLION

    def most_usd(self, input_tokens: int, output_tokens: int) -> float:
        """The most that these tokens cost, whether or not the input is cached."""
        writes = self.cache_write or 0.0, self.long_cache_write or 0.0
        return (input_tokens * max(self.input, *writes) + output_tokens * self.output) / _MILLION


_SONNET_4 = Price(3.0, 15.0, 0.30, 3.75, 6.0)
_GPT_4O = Price(2.5, 10.0, 1.25)
_GPT_4O_MINI = Price(0.15, 0.60, 0.075)

PRICES: Mapping[str, Price] = {
    "claude-sonnet-4-20250514": _SONNET_4,
    "claude-sonnet-4-0": _SONNET_4,
    "gpt-4o": _GPT_4O,
    "gpt-4o-2024-08-06": _GPT_4O,
    "gpt-4o-2024-11-20": _GPT_4O,
    "gpt-4o-mini": _GPT_4O_MINI,
    "gpt-4o-mini-2024-07-18": _GPT_4O_MINI,
    # Text and images. Audio costs more, but the usage does not distinguish it.
    "gemini-2.0-flash": Price(0.10, 0.40, 0.025),
}
"""Prices by the requested model id."""


@dataclass(frozen=True)
class Prices:
    """The public lists, and the operator's `own` prices by model or provider, which come first."""

    own: Mapping[str, Price] = field(default_factory=dict)

    def has_own(self, model: str | None) -> bool:
        """Whether the operator has set a price for the model."""
        return self._find_own(model) is not None

    def cost_usd(self, model: str | None, usage: Usage, *, is_billed: bool) -> float | None:
        """Price of a usage: 0 if no provider is paid, None if the model has no known price."""
        if not is_billed:
            return 0.0
        price = self.find(model)
        return None if price is None else price.cost_usd(usage)

    def find(self, model: str | None) -> Price | None:
        """The price of a model; None if it is not known."""
        return self._find_own(model) or PRICES.get(model or "")

    def _find_own(self, model: str | None) -> Price | None:
        name = model or ""
        return self.own.get(name) or self.own.get(name.partition("/")[0])
