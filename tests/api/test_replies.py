"""Scripted replies and the call log over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.api.handlers import faults_and_replies
from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.registry import ActiveScript
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    import pytest

    from tests.api.conftest import Api

SCRIPT = {
    "unmatched": "fail",
    "replies": [{"match": {"session": None, "text": "hi"}, "reply": ["Hello", {"call": "exec"}]}],
}
NOTHING: dict[str, Any] = {"own": None, "server": None}


async def test_a_script_is_set_shown_and_removed(http: Api) -> None:
    assert (await http.get("/local/replies")).json() == NOTHING
    put = await http.call("PUT", "/local/replies", json=SCRIPT)
    view = {"script": SCRIPT, "used": [0], "unmatched": []}
    assert (put.status_code, put.json()) == (200, {"own": view, "server": None})
    assert (await http.get("/local/replies")).json() == put.json()
    assert (await http.call("DELETE", "/local/replies")).status_code == 204
    assert (await http.get("/local/replies")).json() == NOTHING


async def test_an_invalid_script_is_a_422_with_the_path_of_the_error(
    http: Api,
) -> None:
    wrong = {"replies": [{"reply": ["Hi", {"txt": "Ho"}]}]}
    answer = await http.call("PUT", "/local/replies", json=wrong)
    problems = [each["loc"] for each in answer.json()["detail"]]
    assert ["body", "replies", 0, "reply", 1, "txt"] in problems


async def test_a_script_has_its_own_size_limit(http: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    script = json.dumps(SCRIPT)
    monkeypatch.setattr(faults_and_replies, "MAX_BYTES", len(script))
    for content, status in ((script, 200), (f"{script} ", 413)):
        answer = await http.call("PUT", "/local/replies", content=content)
        assert answer.status_code == status


async def test_an_agent_has_its_own_script(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/replies"
    await http.call("PUT", path, json=SCRIPT)
    assert (await http.get("/local/replies")).json() == NOTHING
    assert (await http.get(path)).json()["own"]["script"] == SCRIPT


async def test_a_scripts_unmatched_calls_are_those_of_the_organization_only(http: Api) -> None:
    scripts, world = http.world.scripts, http.world
    scripts.own = ActiveScript(ReplyScript.model_validate(SCRIPT))
    for text in ("hi", "bye"):
        request = ModelRequest(ModelProvider.OPENAI, "gpt-4o", 1, text, is_session_known=True)
        for organization_id in (world.organization_id, OrganizationId("other")):
            await scripts.answer(organization_id, InstanceId("i"), request)
    view = (await http.get("/local/replies")).json()["server"]
    assert view["used"] == [2]
    (missed,) = view["unmatched"]
    assert (missed["text"], missed["turn"], missed["model"]) == ("bye", 1, "gpt-4o")
    assert (missed["instance_id"], missed["session"], missed["tool"]) == ("i", None, None)


async def test_model_calls_are_listed_and_shown(http: Api) -> None:
    instance = await http.world.created()
    call_log = http.world.call_log
    for body in (b'{"model": "gpt-4o"}', b"\xff no JSON"):
        new = call_log.begin(
            http.world.organization_id, instance.id, ModelProvider.OPENAI, "responses", body, "t1"
        )
        new.session_key = "agent:main:main"
        call_log.append(new, b"data: {}\n\n")
        new.finish("offline")
    listed = (await http.get(f"/local/instances/{instance.id}/model-calls")).json()
    assert [each["id"] for each in listed] == ["ex-2", "ex-1"]
    assert {"request", "chunks"}.isdisjoint(listed[0])
    shortened = await http.get(f"/local/instances/{instance.id}/model-calls?limit=1")
    assert [each["id"] for each in shortened.json()] == ["ex-2"]
    first = (await http.get("/local/model-calls/ex-1")).json()
    assert first["request"] == {"model": "gpt-4o"}
    assert [chunk["text"] for chunk in first["chunks"]] == ["data: {}\n\n"]
    assert (first["session"], first["turn_id"], first["outcome"]) == (None, "t1", "offline")
    assert (await http.get("/local/model-calls/ex-2")).json()["request"] == "\ufffd no JSON"


async def test_model_calls_are_found_at_their_former_paths_with_a_warning(
    http: Api, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await http.world.created()
    listed = await http.get(f"/local/instances/{instance.id}/exchanges", is_documented=False)
    assert (listed.status_code, listed.json()) == (200, [])
    missing = await http.get("/local/exchanges/ex-9", is_documented=False)
    assert missing.json()["detail"].startswith("Model call not found")
    assert "/local/exchanges/{model_call_id} is /local/model-calls/" in caplog.text


async def test_another_organizations_model_call_is_a_404(http: Api) -> None:
    http.world.call_log.begin(
        OrganizationId("other"), InstanceId("i"), ModelProvider.OPENAI, "responses", b"{}"
    )
    answer = await http.get("/local/model-calls/ex-1")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Model call not found: only the latest are kept")


async def test_a_model_call_has_its_sessions_name(http: Api) -> None:
    world = http.world
    instance = await world.created()
    await world.sessions.remember(instance.id, "Zürich/7", "agent:main:s-1", world.clock())
    call_log = http.world.call_log
    keys = ("agent:main:s-1", "agent:main:telegram", None)
    for key in keys:
        new = call_log.begin(
            world.organization_id, instance.id, ModelProvider.OPENAI, "responses", b"{}"
        )
        new.session_key = key
    listed = (await http.get(f"/local/instances/{instance.id}/model-calls")).json()
    named = [(each["session"], each["session_key"]) for each in reversed(listed)]
    assert named == [("Zürich/7", keys[0]), (None, keys[1]), (None, None)]
