"""Messages with an `Idempotency-Key`: the agent gets them once, and answers are repeated."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.store import idempotent_answers
from chowder_local.store.idempotent_answers import IdempotentAnswerQueries, KeptAnswer, MessageKey
from tests.scripted import gateway as scripted
from tests.scripted.serving import eventually
from tests.scripted.talking import failed

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Api

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "Hi", "metadata": {"a": "1", "b": "2"}}
DAY_S = 24 * 3600


async def message(
    http: Api, instance_id: str, key: str = "k1", session: str = "", **more: Any
) -> httpx.Response:
    path = f"/v1/instances/{instance_id}{session}/responses"
    headers = {"Idempotency-Key": key}
    return await http.post(path, json=REQUEST | more, headers=headers)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_same_message_with_the_same_key_gets_the_same_answer(
    http: Api, is_streamed: bool
) -> None:
    instance = await http.world.created()
    first = await message(http, instance.id, stream=is_streamed)
    # In another member order; the answer is read from the database, as after a restart.
    again = await message(http, instance.id, metadata={"b": "2", "a": "1"}, stream=is_streamed)
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (
        False,
        "true",
    )
    assert len(http.world.gateway.messages) == 1


async def test_another_key_session_or_day_sends_the_message_again(http: Api) -> None:
    instance = await http.world.created()
    await message(http, instance.id)
    await message(http, instance.id, key="k2")
    await message(http, instance.id, session="/session/other")
    http.world.clock.advance(DAY_S)
    await message(http, instance.id)
    assert len(http.world.gateway.messages) == 4


async def test_a_key_that_was_used_for_another_message_is_refused(http: Api) -> None:
    instance = await http.world.created()
    await message(http, instance.id)
    answer = await message(http, instance.id, input="Something else.")
    assert answer.status_code == 409
    assert "another message" in answer.json()["detail"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_key_in_use_is_a_409_with_retry_after(http: Api, is_streamed: bool) -> None:
    instance = await http.world.created()
    may_go_on = asyncio.Event()

    async def handler(payload: Any, receive: Any, send: Any) -> None:
        await may_go_on.wait()
        await scripted.friendly(payload, receive, send)

    http.world.gateway.handler = handler
    async with asyncio.TaskGroup() as group:
        first = group.create_task(message(http, instance.id, stream=is_streamed))
        await eventually(lambda: bool(http.world.gateway.messages), "it is being answered")
        busy = await message(http, instance.id, stream=is_streamed)
        other = await message(http, instance.id, input="Something else.")
        may_go_on.set()
    assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
    assert "still being answered" in busy.json()["detail"]
    assert (other.status_code, "retry-after" in other.headers) == (409, False)
    again = await message(http, instance.id, stream=is_streamed)
    assert again.content == first.result().content


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_failed_message_can_be_sent_again_with_its_key(
    http: Api, is_streamed: bool
) -> None:
    instance = await http.world.created()
    http.world.gateway.handler = scripted.failing(502, failed("upstream provider error"))
    assert (await message(http, instance.id, stream=is_streamed)).status_code == 502
    http.world.gateway.handler = scripted.breaking_off
    await message(http, instance.id, stream=is_streamed)
    http.world.gateway.handler = None
    assert (await message(http, instance.id, stream=is_streamed)).status_code == 200
    assert len(http.world.gateway.messages) == 3


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_invalid_key_is_refused(http: Api, key: str) -> None:
    instance = await http.world.created()
    answer = await message(http, instance.id, key=key)
    assert answer.status_code == 400
    assert "255" in answer.json()["detail"]


async def test_kept_answers_are_encrypted_bounded_and_expire(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = http.world
    instance = await world.created()
    queries = IdempotentAnswerQueries(world.database, world.secret_box)
    monkeypatch.setattr(idempotent_answers, "MAX_ANSWERS_PER_INSTANCE", 2)
    monkeypatch.setattr(idempotent_answers, "MAX_ANSWER_BYTES", 1000)
    keys = [MessageKey(instance.id, "agent:main:main", str(number)) for number in range(4)]
    incompressible = bytes(random.Random(0).randbytes(1001))
    for key, body in zip(keys, [b"A secret."] * 3 + [incompressible], strict=True):
        world.clock.advance(1)
        await queries.add(key, KeptAnswer("digest", "text/plain", body), world.clock())
    results = [await queries.get(key, world.clock()) for key in keys]
    assert [each is not None for each in results] == [False, True, True, False]
    files = [world.settings.data_dir / name for name in ("chowder.db", "chowder.db-wal")]
    assert not any(b"A secret." in file.read_bytes() for file in files)
    await queries.expire(world.clock() + timedelta(days=1))
    assert await queries.get(keys[2], world.clock()) is None
