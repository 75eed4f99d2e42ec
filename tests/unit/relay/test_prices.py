"""Costs at list price; unknown models have none."""

from __future__ import annotations

from datetime import date

import pytest

from chowder_local.openclaw.models import KNOWN_MODELS
from chowder_local.relay.prices import AS_OF, PRICES, SOURCES, Price, Prices
from chowder_local.relay.wire.wire_format import Usage

MILLION = 1_000_000
LISTED = Prices()


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("gpt-4o", Usage(input_tokens=MILLION, output_tokens=MILLION), 12.5),
        ("gpt-4o", Usage(input_tokens=MILLION, cached_tokens=MILLION), 1.25),
        ("gpt-4o", Usage(input_tokens=MILLION, cache_write_tokens=MILLION), 2.5),
        ("gpt-4o-mini", Usage(input_tokens=2 * MILLION, output_tokens=MILLION), 0.9),
        ("gemini-2.0-flash", Usage(input_tokens=MILLION, output_tokens=MILLION), 0.5),
        ("claude-sonnet-4-20250514", Usage(MILLION, 0, MILLION, 0, 0), 3.75),
        ("claude-sonnet-4-20250514", Usage(MILLION, 0, MILLION, MILLION, 0), 6.0),
        ("claude-sonnet-4-20250514", Usage(4, 1, 2, 1, 1), (3 + 0.3 + 3.75 + 6 + 15) / MILLION),
    ],
)
def test_each_kind_of_token_has_its_price(model: str, usage: Usage, cost: float) -> None:
    assert LISTED.cost_usd(model, usage, is_billed=True) == pytest.approx(cost)


def test_unbilled_usage_costs_nothing() -> None:
    assert LISTED.cost_usd("gpt-4o", Usage(MILLION), is_billed=False) == 0
    assert LISTED.cost_usd("who knows", Usage(MILLION), is_billed=False) == 0


def test_the_operators_own_price_of_a_model_or_provider_comes_first() -> None:
    prices = Prices({"lab/tiny": Price(1, 2, 1), "lab": Price(3, 4, 3), "gpt-4o": Price(5, 6, 5)})
    costs = {"lab/tiny": 1, "lab/other": 3, "gpt-4o": 5, "gpt-4o-mini": 0.15, "tiny": None}
    for model, cost in costs.items():
        assert prices.cost_usd(model, Usage(MILLION), is_billed=True) == cost


@pytest.mark.parametrize("model", ["gpt-4o-unheard-of", "", None])
def test_the_price_of_an_unknown_model_is_not_guessed(model: str | None) -> None:
    assert LISTED.cost_usd(model, Usage(MILLION), is_billed=True) is None


def test_every_model_of_the_agent_configuration_has_a_price() -> None:
    assert {each for models in KNOWN_MODELS.values() for each in models} <= set(PRICES)


def test_the_lists_are_named_and_dated() -> None:
    assert date.fromisoformat(AS_OF) < date(2100, 1, 1)
    assert all(each.startswith("https://") for each in SOURCES)
