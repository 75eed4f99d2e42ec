"""The format of a provider's calls."""

from __future__ import annotations

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format


def test_a_provider_that_the_operator_named_speaks_as_openai_does() -> None:
    assert [wire_format(each).provider for each in ModelProvider] == list(ModelProvider)
    assert wire_format("lab") is wire_format(ModelProvider.OPENAI)
