"""Budgets, where model calls of sandboxes meet a provider on real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.app.relay_app import create_relay_app
from chowder_local.core.domain import ModelProvider
from chowder_local.core.events import EventType
from chowder_local.features.budgets import service as budgets_module
from chowder_local.features.budgets.errors import BudgetExceeded, PriceMissing
from chowder_local.features.budgets.model import BudgetLimits, BudgetPeriod, Spent
from chowder_local.features.budgets.service import Budgets
from chowder_local.features.budgets.store import BudgetQueries
from chowder_local.relay.wire.errors import error_message
from tests.scripted.serving import eventually, loopback_client
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from chowder_local.features.budgets.service import Budget
    from chowder_local.relay.metering import Reservation
    from tests.scripted.world import World

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]

TOTAL, DAY = BudgetPeriod.TOTAL, BudgetPeriod.DAY
MODEL = "claude-sonnet-4-20250514"
OUTPUT_TOKENS = 1000
CALL_USD = (10 * 3 + OUTPUT_TOKENS * 15) / 1_000_000
"""What the provider's answer costs."""
ASK = {
    "model": MODEL,
    "max_tokens": OUTPUT_TOKENS,
    "messages": [{"role": "user", "content": "Hi"}],
}
USAGE = {"usage": {"input_tokens": 10, "output_tokens": OUTPUT_TOKENS}}


@dataclass
class Provider:
    """A provider that answers once it may, and counts its calls."""

    status: int = 200
    calls: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        is_streamed = bool(json.loads(body).get("stream"))
        kind = b"text/event-stream" if is_streamed else b"application/json"
        answer = json.dumps({"type": "message", "content": [], **USAGE}).encode()
        if is_streamed:
            begin = {"type": "message_start", "message": {"usage": {"input_tokens": 10}}}
            end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **USAGE}
            answer = b"".join(
                b"data: " + json.dumps(each).encode() + b"\n\n" for each in (begin, end)
            )
        headers = [(b"content-type", kind)]
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Scene:
    """An agent whose model calls reach a provider by a relay on a socket."""

    world: World
    provider: Provider
    agent: Instance
    url: str
    http: httpx.AsyncClient

    async def call(self, trace: str | None = None, **changes: Any) -> httpx.Response:
        """A model call of the agent."""
        token = self.world.secret_box.relay_token(self.agent.sandbox_id)
        headers = {"x-api-key": token, "authorization": f"Bearer {token}"}
        if trace is not None:
            headers["traceparent"] = f"00-{trace}-1-01"
        ask = {**ASK, **changes}
        provider = ask.pop("provider", "anthropic")
        path = "v1/messages" if provider == "anthropic" else "responses"
        return await self.http.post(f"{self.url}/{provider}/{path}", json=ask, headers=headers)

    async def limit(self, per: BudgetPeriod = TOTAL, **limits: Any) -> Budget:
        return await self.world.feature(Budgets).put(
            self.world.organization_id, None, BudgetLimits(per, **limits)
        )

    def error_of(self, answer: httpx.Response) -> ChowderError | None:
        """What the client of the message gets for a call that was refused."""
        return self.world.model_failures.find(error_message(answer.content))


@asynccontextmanager
async def open_scene(folder: Path, serve: Serve, **settings: Any) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        provider = Provider()
        provider.may_answer.set()
        provider_url = await stack.enter_async_context(serve(provider))
        world = await stack.enter_async_context(
            open_world(folder, anthropic_base_url=provider_url, **settings)
        )
        url = await stack.enter_async_context(serve(create_relay_app(world.relay)))
        http = await stack.enter_async_context(loopback_client(timeout=60, trust_env=False))
        yield Scene(world, provider, await world.created(), url, http)


@pytest.fixture
async def scene(tmp_path: Path, serve: Serve) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path, serve) as scene:
        yield scene


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_64_calls_at_once_exceed_a_budget_by_no_more_than_one(
    scene: Scene, is_streamed: bool
) -> None:
    budget = await scene.limit(usd=0.1)
    answers = await asyncio.gather(*(scene.call(stream=is_streamed) for _ in range(64)))
    answered = [each for each in answers if each.status_code == 200]
    assert len(answered) == scene.provider.calls
    assert budget.spent.usd == pytest.approx(len(answered) * CALL_USD)
    # What is left is used, and no more than one call beyond it.
    assert 0.1 <= budget.spent.usd < 0.1 + CALL_USD
    assert budget.reserved == Spent()
    refused = [each for each in answers if each.status_code != 200]
    assert all(isinstance(scene.error_of(each), BudgetExceeded) for each in refused)
    kept = scene.world.events.after(0)
    assert [each.type for each in kept].count(EventType.BUDGET_EXCEEDED) == 1


async def test_a_refusal_says_which_budget_how_much_until_when_and_how_to_raise_it(
    scene: Scene,
) -> None:
    await scene.limit(DAY, usd=0.01)
    await scene.call()
    told = str(scene.error_of(await scene.call()))
    for words in (
        "The organization's budget of 0.01 USD a day is spent: 0.015 USD since 2026-05-04",
        "go on at 2026-05-05 00:00 UTC", "budget set --usd MORE --per day", "PUT /local/budget",
    ):  # fmt: skip
        assert words in told
    limits = BudgetLimits(TOTAL, model_calls=0)
    await scene.limit(usd=5)
    await scene.world.feature(Budgets).put(scene.world.organization_id, scene.agent.id, limits)
    told = str(scene.error_of(await scene.call()))
    assert "The agent's budget of 0 model calls is spent" in told
    assert f"budget set --instance {scene.agent.id} --model-calls MORE --per total" in told


async def test_calls_wait_for_what_is_reserved_and_not_spent(scene: Scene) -> None:
    await scene.limit(usd=CALL_USD * 1.5)
    scene.provider.may_answer.clear()
    calls = [asyncio.create_task(scene.call()) for _ in range(3)]
    await eventually(lambda: scene.provider.calls == 2, "two fit by what they reserve")
    scene.provider.may_answer.set()
    statuses = sorted([(await each).status_code for each in calls])
    assert statuses == [200, 200, 400]


async def test_a_call_that_waits_too_long_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets_module, "WAIT_S", 0.05)
    await scene.limit(usd=0.001)
    scene.provider.may_answer.clear()
    first = asyncio.create_task(scene.call())
    await eventually(lambda: scene.provider.calls == 1, "it is in progress")
    assert "is reserved for calls in progress" in str(scene.error_of(await scene.call()))
    scene.provider.may_answer.set()
    assert (await first).status_code == 200


async def test_calls_in_progress_count_as_spent_after_a_kill(scene: Scene) -> None:
    budget = await scene.limit(usd=5)
    await scene.call()
    scene.provider.may_answer.clear()
    running = asyncio.create_task(scene.call())
    await eventually(lambda: scene.provider.calls == 2, "the second is at the provider")
    world = scene.world
    # What another server finds at this moment, if this one is killed.
    found = Budgets(
        queries=BudgetQueries(world.database), prices=world.prices, events=world.events,
        cost_reports=world.cost_reports, clock=world.clock, max_calls_per_message=200,
    )  # fmt: skip
    await found.open(world.default_organization_id, None)
    after = found.get(world.organization_id)
    assert after.spent == budget.spent + budget.reserved
    assert after.spent.model_calls == 2
    assert after.reserved == Spent()
    scene.provider.may_answer.set()
    await running


async def test_a_model_without_a_price_is_refused_under_a_budget_in_usd_only(scene: Scene) -> None:
    await scene.limit(usd=5)
    refusal = scene.error_of(await scene.call(model="claude-new"))
    assert isinstance(refusal, PriceMissing)
    assert "CHOWDER_PRICES=claude-new=INPUT/OUTPUT" in str(refusal)
    budget = await scene.limit(tokens=1_000_000)
    assert (await scene.call(model="claude-new")).status_code == 200
    assert budget.spent.tokens == OUTPUT_TOKENS + 10


async def test_offline_calls_cost_nothing_and_count(scene: Scene) -> None:
    budget = await scene.limit(usd=0, tokens=0, model_calls=2)
    # The organization's key for OpenAI is `offline`.
    for _ in range(2):
        assert (await scene.call(provider="openai", model="gpt-x", input="Hi")).status_code == 200
    assert budget.spent == Spent(0, 0, 2)
    assert (await scene.call(provider="openai", model="gpt-x", input="Hi")).status_code == 400


@pytest.mark.parametrize(("status", "spent"), [(401, Spent()), (503, Spent())])
async def test_what_a_provider_refuses_counts_for_nothing(
    scene: Scene, status: int, spent: Spent
) -> None:
    budget = await scene.limit(usd=5)
    scene.provider.status = status
    await scene.call()
    assert (budget.spent, budget.reserved) == (spent, Spent())


async def test_a_call_whose_sandbox_leaves_counts_as_what_was_reserved(scene: Scene) -> None:
    budget = await scene.limit(usd=5)
    scene.provider.may_answer.clear()
    call = asyncio.create_task(scene.call())
    await eventually(lambda: scene.provider.calls == 1, "it is in progress")
    reserved = budget.reserved
    call.cancel()
    await eventually(lambda: budget.reserved == Spent(), "it is settled")
    assert budget.spent == reserved
    assert reserved.usd > OUTPUT_TOKENS * 15 / 1_000_000


async def test_a_message_may_make_so_many_calls_and_another_one_as_many(
    tmp_path: Path, serve: Serve
) -> None:
    async with open_scene(tmp_path, serve, max_calls_per_message=3) as scene:
        statuses = [(await scene.call("a" * 32)).status_code for _ in range(3)]
        refusal = await scene.call("a" * 32)
        assert statuses == [200] * 3
        assert isinstance(scene.error_of(refusal), BudgetExceeded)
        assert "3 model calls" in str(scene.error_of(refusal))
        assert (await scene.call("b" * 32)).status_code == 200


async def test_a_new_day_begins_with_nothing(scene: Scene) -> None:
    await scene.limit(DAY, model_calls=1)
    await scene.call()
    assert (await scene.call()).status_code == 400
    scene.world.clock.advance(24 * 3600)
    assert (await scene.call()).status_code == 200


async def test_a_day_that_a_clock_ahead_of_time_began_ends_with_its_correction(
    scene: Scene,
) -> None:
    scene.world.clock.advance(3 * 24 * 3600)
    await scene.limit(DAY, model_calls=1)
    await scene.call()
    assert (await scene.call()).status_code == 400
    scene.world.clock.advance(-3 * 24 * 3600)
    assert (await scene.call()).status_code == 200


async def test_a_day_has_what_was_spent_before_its_budget_and_a_change_keeps_it(
    scene: Scene,
) -> None:
    await scene.call()
    budget = await scene.limit(DAY, usd=5)
    assert budget.spent.usd == pytest.approx(CALL_USD)
    assert (budget.spent.tokens, budget.spent.model_calls) == (OUTPUT_TOKENS + 10, 1)
    assert (await scene.limit(DAY, usd=9)).spent == budget.spent
    assert (await scene.limit(TOTAL, usd=9)).spent == Spent()


async def test_a_call_that_waits_for_a_budget_goes_on_when_it_is_removed(scene: Scene) -> None:
    await scene.limit(usd=0.001)
    scene.provider.may_answer.clear()
    calls = [asyncio.create_task(scene.call()) for _ in range(2)]
    await eventually(lambda: scene.provider.calls == 1, "one of them waits")
    await scene.world.feature(Budgets).remove(scene.world.organization_id)
    await eventually(lambda: scene.provider.calls == 2, "nothing limits it")
    scene.provider.may_answer.set()
    assert [(await each).status_code for each in calls] == [200, 200]


async def test_a_change_of_the_period_loses_no_call_that_is_in_progress_or_ends_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.limit(TOTAL, usd=5)
    scene.provider.may_answer.clear()
    call = asyncio.create_task(scene.call())
    await eventually(lambda: scene.provider.calls == 1, "it is in progress")
    budget = await scene.limit(DAY, usd=5)
    queries = BudgetQueries(scene.world.database)
    (stored,) = await queries.all()
    assert (stored.spent, stored.reserved) == (Spent(), budget.reserved)
    assert budget.reserved.model_calls == 1
    over_time = scene.world.cost_reports.over_time

    async def slow(*of: Any) -> Any:
        report = await over_time(*of)
        scene.provider.may_answer.set()
        await call
        return report

    monkeypatch.setattr(scene.world.cost_reports, "over_time", slow)
    await scene.limit(BudgetPeriod.MONTH, usd=5)
    (stored,) = await queries.all()
    assert stored.spent == budget.spent
    assert budget.spent.usd == pytest.approx(CALL_USD)


async def test_a_deleted_agents_budget_is_gone(scene: Scene) -> None:
    limits = BudgetLimits(TOTAL, model_calls=1)
    await scene.world.feature(Budgets).put(scene.world.organization_id, scene.agent.id, limits)
    await scene.world.lifecycle.delete(scene.world.organization_id, scene.agent.id)
    assert scene.world.feature(Budgets).find(scene.agent.id) is None
    assert await BudgetQueries(scene.world.database).all() == []


async def test_every_provider_gets_the_refusal_in_its_own_form(scene: Scene) -> None:
    await scene.limit(usd=0, model_calls=0)
    token = scene.world.secret_box.relay_token(scene.agent.sandbox_id)
    headers = {"x-api-key": token, "authorization": f"Bearer {token}", "x-goog-api-key": token}
    for provider in ModelProvider:
        path = (
            "models/gemini-x:generateContent" if provider is ModelProvider.GEMINI else "responses"
        )
        path = "v1/messages" if provider is ModelProvider.ANTHROPIC else path
        await scene.world.organizations.change(
            scene.world.organization_id, model_api_keys={provider: "offline"}
        )
        answer = await scene.http.post(f"{scene.url}/{provider}/{path}", json=ASK, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
        assert isinstance(scene.error_of(answer), BudgetExceeded)


async def test_what_another_feature_refuses_takes_nothing_of_a_budget(scene: Scene) -> None:
    async def refuse(*_: Any, **__: Any) -> Reservation:
        raise PriceMissing("tiny")

    budget = await scene.limit(usd=5, model_calls=5)
    scene.world.feature_hooks.reserve.append(refuse)
    assert isinstance(scene.error_of(await scene.call()), PriceMissing)
    assert (budget.reserved, budget.spent, scene.provider.calls) == (Spent(), Spent(), 0)
