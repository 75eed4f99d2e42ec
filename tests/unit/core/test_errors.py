"""Each error has a unique code and a message for people."""

from __future__ import annotations

import inspect
from typing import Any

from chowder_local.core.errors import ChowderError, agents, process, requests, sandboxes, upstream

MODULES = (agents, process, requests, sandboxes, upstream)
KINDS = [
    kind
    for module in MODULES
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, ChowderError) and kind.__module__ == module.__name__
]

SAMPLES: dict[str, Any] = {
    "Sequence[Mapping[str, Any]]": [{"loc": ["body"], "msg": "no", "type": "x"}],
    "Sequence[object]": ["sample"],
    "Sequence[str]": ["sample"],
    "int": 7,
    "int | None": 503,
    "bool": True,
    "str": "sample",
    "str | None": "sample",
    "float": 7.0,
}


def sample(kind: type[ChowderError]) -> ChowderError:
    """An error of a class, made from the annotations of its constructor."""
    if hasattr(kind, "message"):
        return kind()
    if "__init__" not in vars(kind):
        return kind("Something is the case.")
    parameters = list(inspect.signature(kind).parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    named = {p.name: SAMPLES[p.annotation] for p in required if p.kind is p.KEYWORD_ONLY}
    return kind(*(SAMPLES[p.annotation] for p in required if p.kind is not p.KEYWORD_ONLY), **named)


def test_every_error_has_a_docstring_a_remedy_and_a_message_of_one_line() -> None:
    messages = {kind: str(sample(kind)) for kind in KINDS}
    assert not [
        (kind, text)
        for kind, text in messages.items()
        if not (text[0].isupper() or text.startswith(("sample", "'"))) or "\n" in text
    ]
    assert all(inspect.getdoc(kind) and kind.remedy for kind in KINDS)


def test_a_providers_failure_keeps_its_status_text_and_retry_after() -> None:
    failed = upstream.ProviderFailed("openai", 429, "Slow down.", retry_after="7")
    assert (failed.status, failed.reason, failed.retry_after) == (429, "Slow down.", "7")
    assert "did not answer" in str(upstream.ProviderFailed("openai", None, "No route."))


def test_exit_codes_go_from_1_to_9_and_hold_for_subclasses() -> None:
    assert {kind.exit_code for kind in KINDS} == set(range(1, 10))
    assert requests.InstanceNotFound.exit_code == 1
    assert process.SettingsInvalid.exit_code == 2
    assert sandboxes.EngineSilent.exit_code == sandboxes.EngineUnavailable.exit_code == 6
