"""Recordings of an instance's model calls over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from chowder_local.core.domain import InstanceId
    from tests.api.conftest import Api

NAME = "0001-openai-gpt-4o.json"
ENTRY: dict[str, Any] = {
    "format": 1,
    "asked": {
        "provider": "openai",
        "model": "gpt-4o",
        "is_streamed": True,
        "turns": [{"said": "Hi"}],
    },
    "answered": {"status": 200, "content_type": "text/event-stream", "events": ["data: 1"]},
}


def log_call(
    http: Api, instance_id: InstanceId, *, outcome: str = "answered", bytes_: int = 0
) -> None:
    body = json.dumps({"model": "gpt-4o", "input": "Hi", "stream": True}).encode()
    call_log = http.world.call_log
    call = call_log.begin(
        http.world.organization_id, instance_id, ModelProvider.OPENAI, "responses", body
    )
    call.status, call.content_type = 200, "text/event-stream"
    call_log.append(call, b"data: 1\n\n" + b"x" * bytes_)
    call.finish(outcome)


async def test_an_agents_model_calls_are_a_recording(http: Api) -> None:
    instance = await http.world.created()
    log_call(http, instance.id)
    recording = (await http.get(f"/local/instances/{instance.id}/recording")).json()
    assert recording == {"entries": {NAME: ENTRY}, "is_replayed": False}


async def test_a_recording_can_begin_after_a_call(http: Api) -> None:
    instance = await http.world.created()
    for _ in range(3):
        log_call(http, instance.id)
    path = f"/local/instances/{instance.id}/recording"
    counts = [
        len((await http.get(f"{path}?after={after}")).json()["entries"])
        for after in ("ex-1", "ex-3", "ex-0")
    ]
    assert counts == [2, 0, 3]


async def test_failed_or_truncated_calls_are_not_recorded(http: Api) -> None:
    instance = await http.world.created()
    log_call(http, instance.id, outcome="broken")
    log_call(http, instance.id, bytes_=2 * 1024 * 1024)
    http.world.call_log.begin(
        http.world.organization_id, instance.id, ModelProvider.OPENAI, "embeddings", b"{}"
    ).finish("answered")
    recording = (await http.get(f"/local/instances/{instance.id}/recording")).json()
    assert recording["entries"] == {}


async def test_a_recording_is_replayed_and_removed(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/recording"
    put = await http.call("PUT", path, json={"entries": {"2": ENTRY, "1": ENTRY}})
    assert (put.status_code, put.json()["is_replayed"]) == (200, True)
    assert list(http.world.recordings.entries(instance.id) or ()) == ["1", "2"]
    assert (await http.call("DELETE", path)).status_code == 204
    assert (await http.get(path)).json()["is_replayed"] is False


async def test_a_recording_is_replayed_in_order_if_the_model_answers_after_it(
    http: Api,
) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/recording"
    for members in ({"in_order": True}, {"then_live": True}, {}):
        put = await http.call("PUT", path, json={"entries": {"1": ENTRY}, **members})
        assert put.status_code == 200
        playback = http.world.recordings.playback(instance.id)
        assert playback is not None
        assert (playback.in_order, playback.then_live) == (bool(members), "then_live" in members)


async def test_a_deleted_agents_recording_is_removed(http: Api) -> None:
    instance = await http.world.created()
    await http.call("PUT", f"/local/instances/{instance.id}/recording", json={"entries": {}})
    await http.call("DELETE", f"/v1/instances/{instance.id}")
    assert http.world.recordings.entries(instance.id) is None
