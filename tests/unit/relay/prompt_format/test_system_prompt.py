"""The session and the model of a call, in the format of OpenClaw 2026.9.6."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format import LONGEST_NAME
from tests.scripted.model_calls import model_call

ANTHROPIC, OPENAI, GEMINI = ModelProvider


def session_key(provider: ModelProvider, body: bytes) -> str | None:
    session = model_call(provider, "", body).session
    return session and session.key


def line(key: str) -> str:
    return (
        f"You are helpful.\n\n\nRuntime: agent=main | session={key} | sessionId=8dffdb59 | "
        "host=agent | model=chowder-openai/gpt-4o | capabilities=markdown\n<!-- /openclaw -->"
    )


def call(provider: ModelProvider, system: str, said: str = "Hi") -> bytes:
    """A call with the members in the order in which OpenClaw has them."""
    body: dict[str, Any]
    if provider is ANTHROPIC:
        message = {"role": "user", "content": [{"type": "text", "text": said}]}
        body = {"model": "m", "messages": [message], "system": [{"type": "text", "text": system}]}
    elif provider is OPENAI:
        items = [{"role": "developer", "content": system}, {"role": "user", "content": said}]
        body = {"model": "m", "input": items}
    else:
        contents = [{"role": "user", "parts": [{"text": said}]}]
        body = {"contents": contents, "systemInstruction": {"parts": [{"text": system}]}}
    return json.dumps(body).encode()


@pytest.mark.parametrize("provider", ModelProvider)
@pytest.mark.parametrize("key", ["agent:main:main", "agent:main:telegram:direct:5 x|y"])
def test_the_session_is_read_from_the_system_prompt(provider: ModelProvider, key: str) -> None:
    assert session_key(provider, call(provider, line(key))) == key


@pytest.mark.parametrize("provider", ModelProvider)
def test_a_runtime_line_in_a_user_message_is_ignored(provider: ModelProvider) -> None:
    body = call(provider, line("agent:main:main"), said=line("agent:main:forged"))
    assert session_key(provider, body) == "agent:main:main"


def test_the_last_runtime_line_of_a_system_prompt_is_used() -> None:
    body = call(OPENAI, line("agent:main:a-note-of-the-agent") + line("agent:main:main"))
    assert session_key(OPENAI, body) == "agent:main:main"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        call(OPENAI, "You are helpful."),
        call(OPENAI, "Runtime: agent=main | host=agent"),
        call(OPENAI, line("k" * (LONGEST_NAME + 1))),
        b"Runtime: agent=main Runtime: agent=main",
        b'{"input": 5, "a": "Runtime: agent=main Runtime: agent=main"}',
        b'{"input": [1], "a": "Runtime: agent=main Runtime: agent=main"}',
    ],
)
def test_a_call_without_a_valid_runtime_line_has_no_session(body: bytes) -> None:
    assert session_key(OPENAI, body) is None


@pytest.mark.parametrize(
    ("provider", "path", "body", "model"),
    [
        (ANTHROPIC, "v1/messages", b'{"model": "claude-x", "messages": []}', "claude-x"),
        (OPENAI, "responses", b'{"model":"gpt-4o","input":[{"model":"other"}]}', "gpt-4o"),
        (GEMINI, "models/gemini-2.0-flash:streamGenerateContent", b"{}", "gemini-2.0-flash"),
        (GEMINI, "models/a%2Fb:generateContent", b"{}", "a/b"),
        (GEMINI, "models", b"{}", None),
        (OPENAI, "responses", b"{}", None),
        (OPENAI, "responses", b'{"model": "%b"}' % (b"m" * (LONGEST_NAME + 1)), None),
    ],
)
def test_the_model_is_read_from_the_path_or_the_body(
    provider: ModelProvider, path: str, body: bytes, model: str | None
) -> None:
    assert model_call(provider, path, body).model == model


def test_a_jobs_runtime_line_has_a_session_without_an_id() -> None:
    system = "Runtime: agent=main | session=agent:main:cron:9c30-d9 | host=agent | node=v24"
    session = model_call(OPENAI, "", call(OPENAI, system)).session

    assert session is not None
    assert (session.key, session.id, session.job_id) == ("agent:main:cron:9c30-d9", "", "9c30-d9")
