"""`chat` against a scripted server, by argument, by pipe and at a prompt."""

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from chowder_local.cli import chat as module
from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

MAIN = "POST /v1/instances/abc/responses"
FISH = {
    "id": "abc",
    "name": "fish",
    "model_provider": "openai",
    "status": "running",
    "gateway_url": "http://127.0.0.1:1",
}
LISTED = {"GET /v1/instances": [FISH]}
TRACES = "GET /local/instances/abc/traces?limit=1"


def answer(*pieces: str) -> bytes:
    events = [{"type": "response.output_text.delta", "delta": piece} for piece in pieces]
    lines = [*map(json.dumps, events), "[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_message_as_argument_is_answered(serve: Serve, capsys: Output) -> None:
    env, requests = serve({**LISTED, MAIN: answer("Hel", "lo.")})
    assert run(["chat", "fish", "how", "are", "you"], env) == 0
    assert capsys.readouterr() == ("Hello.\n", "")
    assert requests[-1][1] == {"model": "gpt-4o", "input": "how are you", "stream": True}


@pytest.mark.parametrize(
    ("change", "traces", "words"),
    [
        ({}, [{"response_id": "resp_1"}], "fish is answering\n"),
        ({}, [], "fish is answering: with the first message after a boot, OpenClaw loads what it"),
        ({"gateway_url": None}, [], "fish comes back into memory and answers\n"),
        (
            {"status": "provisioning"},
            [],
            "fish is provisioning (without a warm sandbox, OpenClaw boots now)",
        ),
    ],
)
def test_an_answer_that_takes_longer_than_a_moment_says_what_is_waited_for(
    serve: Serve,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    traces: list[Any],
    words: str,
) -> None:
    for name in ("chat", "commands"):
        monkeypatch.setattr(f"chowder_local.cli.{name}.MOMENT_S", 0.0)
    state = {"GET /v1/instances/abc/status": {"status": "running"}, "GET /v1/instances/abc": FISH}
    listed = {"GET /v1/instances": [FISH | change]}
    env, _ = serve({**listed, **state, TRACES: traces, MAIN: answer("Hi.")})
    assert run(["chat", "fish", "hi"], env) == 0
    printed, notes = capsys.readouterr()
    assert (printed, notes[: len(words)]) == ("Hi.\n", words)


def test_session_and_model_can_be_chosen(serve: Serve) -> None:
    env, requests = serve({**LISTED, "POST /v1/instances/abc/session/a%2Fb/responses": answer("x")})
    assert run(["chat", "fish", "hi", "--session", "a/b", "--model", "claude-x"], env) == 0
    assert requests[-1][1]["model"] == "claude-x"


def test_a_message_may_be_piped_in(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({**LISTED, MAIN: answer("ok")})
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    assert run(["chat", "fish"], env) == 0
    assert requests[-1][1]["input"] == "two\nlines"
    assert capsys.readouterr().out == "ok\n"


def test_an_empty_pipe_is_wrong_usage(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, _ = serve(LISTED)
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    assert run(["chat", "fish"], env) == 2
    assert "There is no message" in capsys.readouterr().err


def test_the_prompt_continues_until_the_end_of_input(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({**LISTED, MAIN: answer("ok")})
    monkeypatch.setattr(sys, "stdin", Typed("one\ntwo\n"))
    assert run(["chat", "fish"], env) == 0
    assert [body["input"] for _, body in requests[2:]] == ["one", "two"]
    printed, notes = capsys.readouterr()
    assert printed.count("ok\n") == 2
    assert "fish (gpt-4o)" in notes


def test_an_error_does_not_end_the_prompt(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({**LISTED, MAIN: (409, {"detail": "Instance is stopped."})})
    monkeypatch.setattr(sys, "stdin", Typed("one\ntwo\n"))
    assert run(["chat", "fish"], env) == 0
    assert len(requests) == 4
    assert capsys.readouterr().err.count("Error: Instance is stopped.") == 2


def test_an_interrupt_ends_the_answer_but_not_the_prompt(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed() -> Iterator[str]:
        yield "one"
        raise click.Abort

    lines = typed()
    monkeypatch.setattr(click, "prompt", lambda *_, **__: next(lines))

    def tell(_: str) -> None:
        raise KeyboardInterrupt

    module._converse(tell, "hello")
    assert "(interrupted)" in capsys.readouterr().err
