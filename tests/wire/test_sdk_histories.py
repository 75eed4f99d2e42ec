"""What SDKs that send the whole history every time make of our answers is recognized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from chowder_local.app.application import api
from chowder_local.core.domain import ModelProvider
from chowder_local.http.listener import with_state
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.call_log import CallLog
from tests.scripted import gateway as scripted
from tests.scripted.answers import MESSAGE
from tests.scripted.serving import no_lifespan, serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from langchain_core.messages import BaseMessage
    from starlette.types import Receive, Send

    from chowder_local.core.domain import SandboxId
    from tests.scripted.gateway import ReceivedMessage

LINE = f"Runtime: agent=main | session={MAIN_KEY} | sessionId=session-1 | host=agent"
CALL = {
    "type": "function_call", "id": "call_a", "call_id": "4fce45428", "name": "get_weather",
    "arguments": '{"city":"Oslo"}', "status": "completed",
}  # fmt: skip


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


@dataclass
class Served:
    """An agent behind a server, and what came to it."""

    world: World
    url: str

    @property
    def told(self) -> list[Any]:
        """Each message's items: what was said, or the type of anything else."""
        return [
            [each.get("content", each["type"]) for each in message.body["input"]]
            for message in self.world.gateway.messages
        ]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_world(tmp_path) as world:
        instance = await world.created()
        world.gateway.handler = _agent(world, instance.sandbox_id)
        app = with_state(api([], no_lifespan, world.metrics), world.state)
        async with serve(app) as url:
            yield Served(world, f"{url}/v1/instances/{instance.id}")


def _agent(world: World, sandbox_id: SandboxId) -> Any:
    """Calls the weather function when asked for the weather, and says hello otherwise."""

    async def handler(asked: ReceivedMessage, _: Receive, send: Send) -> None:
        body = b'{"input": [{"role": "developer", "content": "%s"}]}' % LINE.encode()
        call = CallLog().begin(None, None, ModelProvider.OPENAI, "responses", body)
        assert world.session_watch.note(sandbox_id, call)
        latest = asked.body["input"][-1]
        is_question = "weather" in str(latest.get("content"))
        output = [CALL] if is_question else [MESSAGE]
        await scripted.answer(send, 200, scripted.RESPONSE | {"output": output})

    return handler


async def test_the_agents_sdk_has_the_agent_told_each_item_once(served: Served) -> None:
    from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=served.url, api_key=served.world.key) as client:
        agent = Agent(
            name="Forecaster",
            model=OpenAIResponsesModel("gpt-4o", openai_client=client),
            tools=[function_tool(get_weather)],
        )
        config = RunConfig(tracing_disabled=True)
        first = await Runner.run(agent, "The weather, please.", run_config=config)
        again: Any = [*first.to_input_list(), {"role": "user", "content": "Thanks."}]
        await Runner.run(agent, again, run_config=config)
    assert served.told == [["The weather, please."], ["function_call_output"], ["Thanks."]]


async def test_langchain_has_the_agent_told_each_item_once(served: Served) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    key = SecretStr(served.world.key)
    chat = ChatOpenAI(model="gpt-4o", base_url=served.url, api_key=key, use_responses_api=True)
    tool = {"name": "get_weather", "description": "", "parameters": {"type": "object"}}
    bound = chat.bind_tools([tool])
    history: list[BaseMessage] = [HumanMessage("The weather, please.")]
    called = await bound.ainvoke(history)
    history += [called, ToolMessage("Rain in Oslo", tool_call_id=called.tool_calls[0]["id"])]
    history.append(await bound.ainvoke(history))
    history.append(HumanMessage("Thanks."))
    await bound.ainvoke(history)
    assert served.told == [["The weather, please."], ["function_call_output"], ["Thanks."]]


QUESTION = {"role": "user", "content": "The weather, please."}


async def _send(served: Served, *items: Any) -> Any:
    """The output of the answer to these items."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {served.world.key}"}) as client:
        body = {"model": "gpt-4o", "input": items}
        answer = (await client.post(f"{served.url}/responses", json=body)).raise_for_status()
        return answer.json()["output"]


async def test_a_calls_ids_have_openais_form_and_lead_back_to_openclaws_own(
    served: Served,
) -> None:
    # In the form of agno, which renames ids of calls without OpenAI's prefixes.
    [call] = await _send(served, QUESTION)
    assert (call["id"], call["call_id"]) == ("fc_4fce45428", "call_4fce45428")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Rain"}
    [said] = await _send(served, QUESTION, call, result)
    answer = {"role": "assistant", "content": said["content"][0]["text"]}
    await _send(served, QUESTION, call, result, answer, {"role": "user", "content": "Thanks."})
    assert served.told == [["The weather, please."], ["function_call_output"], ["Thanks."]]
    assert served.world.gateway.messages[1].body["input"][0]["call_id"] == "4fce45428"


async def test_a_question_beside_its_functions_results_is_not_asked_again(served: Served) -> None:
    # In the form of Semantic Kernel, which sends earlier results again as well.
    result = {"type": "function_call_output", "output": "Rain"}
    first, second = result | {"call_id": "call_4fce45428"}, result | {"call_id": "call_2"}
    await _send(served, QUESTION)
    await _send(served, QUESTION, first)
    await _send(served, QUESTION, first, second)
    told = [message.body["input"] for message in served.world.gateway.messages]
    assert [[each.get("call_id") for each in items] for items in told] == [
        [None], ["4fce45428"], ["2"],
    ]  # fmt: skip
