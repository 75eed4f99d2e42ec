"""`chat`: a conversation with an agent, streamed."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import find_instance, instance_argument, wait_until_running
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import WAIT_TIMEOUT_S, Command
from chowder_local.cli.output import ask, note, note_text, say_pieces, waiting
from chowder_local.core.domain import InstanceStatus, ModelProvider
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.wording import MOMENT_S
from chowder_local.openclaw.models import DEFAULT_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chowder_local.client import Client


@click.command(cls=Command)
@instance_argument
@click.argument("message", nargs=-1)
@click.option("-s", "--session", help="Named session to use instead of the main one.")
@click.option("-m", "--model", help="Model id; by default, a model of the agent's provider.")
@pass_client
def chat(
    client: Client,
    instance: str,
    message: tuple[str, ...],
    session: str | None,
    model: str | None,
) -> None:
    """Talk to INSTANCE (name, id, or beginning of an id).

    With MESSAGE, or with a message from a pipe, the command prints the answer and ends. Otherwise
    it prompts for messages until Ctrl-D.
    """
    agent = find_instance(client, instance)
    if agent["status"] == InstanceStatus.PROVISIONING:
        agent = wait_until_running(client, agent, WAIT_TIMEOUT_S)
    model_id = model or DEFAULT_MODELS[ModelProvider(agent["model_provider"])]
    states = iter([_describe_wait(client, agent)])

    def send(text: str) -> None:
        with closing(client.stream_text(agent["id"], text, model_id, session)) as pieces:
            state = next(states, f"{agent['name']} is answering")
            say_pieces(_with_sign_of_life(pieces, state))

    if message:
        send(" ".join(message))
    elif sys.stdin.isatty():
        _converse(send, f"{agent['name']} ({model_id}). Ctrl-D ends the conversation.")
    elif text := sys.stdin.read().strip():
        send(text)
    else:
        raise click.UsageError("There is no message. Give one as an argument, or pipe one in.")


def _describe_wait(client: Client, agent: dict[str, Any]) -> str:
    if agent["gateway_url"] is None:
        return f"{agent['name']} comes back into memory and answers"
    with suppress(ApiRefused):
        # A scoped key may not read them.
        if not client.traces(agent["id"], 1):
            return (
                f"{agent['name']} is answering: with the first message after a boot, OpenClaw "
                "loads what it needs"
            )
    return f"{agent['name']} is answering"


def _with_sign_of_life(pieces: Iterator[str], state: str) -> Iterator[str]:
    """The pieces; until the first one, a person sees that the agent works."""
    with waiting(state, after_s=MOMENT_S):
        first = list(islice(pieces, 1))
    yield from first
    yield from pieces


def _converse(send: Callable[[str], None], greeting: str) -> None:
    note(greeting)
    while True:
        try:
            text = ask("you", prompt_suffix="> ")
        except click.Abort:
            # Ctrl-D and Ctrl-C at the prompt both end the conversation.
            note("")
            return
        try:
            send(text)
        except KeyboardInterrupt:
            # The agent's turn ended with the stream; the conversation goes on.
            note("", "(interrupted)")
        except ChowderError as failure:
            note_text(f"Error: {failure}")
