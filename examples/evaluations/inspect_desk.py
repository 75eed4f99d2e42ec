"""Each sample, in each epoch, on a fork of an agent.

inspect eval inspect_desk.py --model none --max-samples 2
"""

import os
from asyncio import to_thread

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import includes
from inspect_ai.solver import Generate, TaskState, solver

from chowder_local.client import Client

MODEL = "claude-sonnet-4-20250514"


def ask_fork(agent: str, question: str) -> str:
    """The answer of a fork, which is deleted afterwards."""
    with Client(os.environ["CHOWDER_BASE_URL"], os.environ["CHOWDER_KEY"]) as client:
        (original,) = (each["id"] for each in client.instances() if each["name"] == agent)
        fork = client.fork(original, f"sample of {agent}")["id"]
        try:
            client.wait_until_running(fork)
            response = client.respond(fork, question, MODEL)
        finally:
            client.delete(fork)
    (message,) = (each for each in response["output"] if each["type"] == "message")
    return "".join(part["text"] for part in message["content"])


@solver
def forked(agent: str):
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        answer = await to_thread(ask_fork, agent, state.input_text)
        state.output = ModelOutput.from_content(MODEL, answer)
        state.messages.append(state.output.message)
        return state

    return solve


@task
def desk() -> Task:
    samples = [
        Sample("I take two parcels.", target="1 parcel"),
        # The order before was placed with another fork.
        Sample("How many are left?", target="3 parcels"),
    ]
    return Task(samples, solver=forked("desk"), scorer=includes(), epochs=2)
