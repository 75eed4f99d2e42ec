"""Errors in OpenAI's format: message, type, code and param."""

from __future__ import annotations

import pytest

from chowder_local.core.errors import ChowderError, agents, requests, upstream
from chowder_local.http.error_rendering import detail_of, status_of
from chowder_local.http.message_errors import error_of, is_message_route


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/v1/instances/x/responses", True),
        ("/v1/instances/x/session/a/b\n/responses", True),
        ("/v1/instances/x/y/responses", False),
        ("/v1/instances/x", False),
        ("/local/instances/x/responses", False),
    ],
)
def test_message_routes_are_recognized_by_their_paths(path: str, is_one: bool) -> None:
    assert is_message_route({"path": path}) == is_one


def problem(*loc: str | int) -> dict[str, object]:
    return {"loc": ["body", *loc], "msg": "Field required", "type": "missing"}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (
            requests.InputInvalid([problem("input", 0, "content")]),
            ("body.input.0.content: Field required", "invalid_request_error", "input_invalid",
             "input[0].content"),
        ),
        (
            requests.InputInvalid([problem("model"), problem("input")]),
            ("body.model: Field required; body.input: Field required", "invalid_request_error",
             "input_invalid", None),
        ),
        (
            agents.MessageRefused("tools[1].name: no."),
            ("tools[1].name: no.", "invalid_request_error", "message_refused", "tools[1].name"),
        ),
        (
            agents.MessageRefused("Unknown model: x"),
            ("Unknown model: x", "invalid_request_error", "message_refused", None),
        ),
        (
            agents.GatewayUnavailable("gone"),
            ("Gateway unavailable – gone", "server_error", "gateway_unavailable", None),
        ),
        (
            upstream.ProviderFailed("openai", 429, "Slow."),
            ("The model provider openai answered 429: Slow.", "rate_limit_error",
             "rate_limit_exceeded", None),
        ),
        (
            upstream.ProviderFailed("openai", 402, "Pay.", provider_code="insufficient_quota"),
            ("The model provider openai answered 402: Pay.", "invalid_request_error",
             "insufficient_quota", None),
        ),
    ],
)  # fmt: skip
def test_an_error_has_message_type_code_and_param(
    failure: ChowderError, expected: tuple[str | None, ...]
) -> None:
    error = error_of(failure, status_of(failure), detail_of(failure))
    assert tuple(error[name] for name in ("message", "type", "code", "param")) == expected
