"""The life cycle of instances over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import select

from chowder_local.core.domain import (
    InstanceStatus,
    ModelProvider,
    Permission,
    SandboxState,
    Tier,
)
from chowder_local.core.errors.sandboxes import EngineDiskFull, EngineUnavailable
from chowder_local.core.secrets import SecretBox
from chowder_local.openclaw.config.edits import SCHEMA_FILE
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.store.conversation_histories import ConversationHistory
from chowder_local.store.idempotent_answers import KeptAnswer, MessageKey
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.tables import METADATA, InstanceRow
from tests.api.test_recordings import log_call
from tests.scripted.engine import Hold
from tests.scripted.gateway import refused
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.api.conftest import Api

MEMBERS = {
    "id", "organization_id", "name", "status", "model_provider", "sandbox_provider", "sandbox_id",
    "openclaw_version", "openclaw_config", "gateway_url", "region", "error_message", "created_at",
    "updated_at",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "PATCH": {"name": "Bea"},
    "POST": {"model": "gpt-4o", "input": "Hi"},
}


async def test_a_new_instance_is_provisioning_and_has_no_address(
    http: Api,
) -> None:
    hold = http.world.engine.holds["boot"] = Hold()
    answer = await http.post("/v1/instances", json={"name": "Ada"})
    assert answer.status_code == 201
    new = answer.json()
    assert set(new) == MEMBERS
    assert new["organization_id"] == http.world.organization_id
    expected = {
        "name": "Ada",
        "status": "provisioning",
        "model_provider": "anthropic",
        "sandbox_provider": "sandbox",
        "sandbox_id": None,
        "openclaw_version": "v1",
        "openclaw_config": None,
        "gateway_url": None,
        "region": None,
        "error_message": None,
    }
    assert {key: new[key] for key in expected} == expected
    hold.may_end.set()


async def test_a_running_instance_has_its_sandbox_and_address(http: Api) -> None:
    instance = await http.world.created()
    view = (await http.get(f"/v1/instances/{instance.id}")).json()
    assert set(view) == MEMBERS
    assert view["status"] == "running"
    assert view["sandbox_id"] == instance.sandbox_id
    assert view["gateway_url"] == http.world.engine.address(instance.sandbox_id)


async def test_the_fields_of_a_creation_are_stored(http: Api) -> None:
    payload = {
        "name": "Bea",
        "model_provider": "openai",
        "sandbox_provider": "other",
        "openclaw_version": "2026.9.5",
        "openclaw_config": {"a.b": 1},
        "region": "eu",
    }
    new = (await http.post("/v1/instances", json=payload)).json()
    assert {key: new[key] for key in payload} == payload


async def test_null_is_the_default_openclaw_version(http: Api) -> None:
    payload = {"name": "Bea", "openclaw_version": None}
    assert (await http.post("/v1/instances", json=payload)).json()["openclaw_version"] == "v1"


async def test_a_version_without_an_image_is_refused_with_its_cure(http: Api) -> None:
    payload = {"name": "Bea", "openclaw_version": "2026.1.1"}
    refused = await http.post("/v1/instances", json=payload)
    assert refused.status_code == 400
    assert refused.json()["detail"].endswith("chowder-local image build --openclaw 2026.1.1")
    assert (await http.get("/v1/instances")).json() == []


async def test_without_a_model_key_the_error_message_says_so(http: Api) -> None:
    instance = await http.world.created(model_provider=ModelProvider.GEMINI)
    view = (await http.get(f"/v1/instances/{instance.id}")).json()
    assert view["status"] == "error"
    assert "No API key for gemini" in view["error_message"]


async def test_the_status_has_three_members(http: Api) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/v1/instances/{instance.id}/status")
    assert answer.json() == {
        "id": instance.id,
        "status": "running",
        "gateway_url": http.world.engine.address(instance.sandbox_id),
    }


async def test_the_status_of_a_queued_instance_has_its_place_in_the_boot_queue(http: Api) -> None:
    hold = http.world.engine.holds["boot"] = Hold()
    # Two boot at a time.
    provisioner, _, waits = [
        (await http.post("/v1/instances", json={"name": name})).json()["id"] for name in "ABC"
    ]
    await hold.has_begun.wait()
    await eventually(lambda: http.world.boot_queue.length == 1, "the third waits")
    answers = [await http.get(f"/v1/instances/{each}/status") for each in (provisioner, waits)]
    assert [each.headers.get("X-Queue-Position") for each in answers] == [None, "1"]
    hold.may_end.set()


async def test_the_list_has_the_organizations_instances_without_terminated_ones(http: Api) -> None:
    ada, bea = await http.world.created(name="Ada"), await http.world.created(name="Bea")
    await http.call("DELETE", f"/v1/instances/{ada.id}")
    listed = (await http.get("/v1/instances")).json()
    assert [each["id"] for each in listed] == [bea.id]
    assert set(listed[0]) == MEMBERS
    assert (await http.get("/v1/instances", key=await http.other_key())).json() == []


async def test_over_the_limit_no_instance_is_created(http: Api) -> None:
    key = await http.other_key()
    first = await http.post("/v1/instances", json={"name": "one"}, key=key)
    assert first.status_code == 201
    second = await http.post("/v1/instances", json={"name": "two"}, key=key)
    assert (second.status_code, second.json()) == (
        402,
        {"detail": "Instance limit reached (1/1). Upgrade your subscription."},
    )


async def test_stop_and_start_return_the_instance_with_its_new_status(http: Api) -> None:
    instance = await http.world.created()
    stopped = await http.post(f"/v1/instances/{instance.id}/stop")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    assert set(stopped.json()) == MEMBERS
    started = await http.post(f"/v1/instances/{instance.id}/start")
    assert (started.status_code, started.json()["status"]) == (200, "running")


@pytest.mark.parametrize(
    ("status", "verb"),
    [(each, "stop") for each in InstanceStatus if each is not InstanceStatus.RUNNING]
    + [(each, "start") for each in InstanceStatus if each is not InstanceStatus.STOPPED],
)
async def test_the_wrong_status_is_a_conflict(http: Api, status: InstanceStatus, verb: str) -> None:
    instance = await http.world.placed(status)
    answer = await http.post(f"/v1/instances/{instance.id}/{verb}")
    wanted = {"stop": "running", "start": "stopped"}[verb]
    assert (answer.status_code, answer.json()) == (
        409,
        {"detail": f"Instance is {status}, but must be {wanted} for this."},
    )


async def test_what_a_booting_agent_waits_for_is_said(http: Api) -> None:
    reason = "The engine could not boot it: no space left on device. Free space on its disk."
    instance = await http.world.created()
    http.world.engine.put(instance.sandbox_id, SandboxState.MISSING)
    http.world.engine.failing["boot"] = EngineDiskFull(reason)
    await http.world.reconciler.reconcile()
    await eventually(lambda: not http.world.provisioner.in_progress_count, "its boot has failed")
    config = {"openclaw_config": {"agents.defaults.timeoutSeconds": 9}}
    for method, path, body in [
        ("POST", "v1/instances/{}/responses", BODIES["POST"]),
        ("POST", "v1/instances/{}/start", {}),
        ("POST", "v1/instances/{}/stop", {}),
        ("GET", "v1/instances/{}/files", None),
        ("PATCH", "v1/instances/{}", config),
        ("GET", "local/instances/{}/transcript", None),
        ("POST", "local/instances/{}/snapshots", {}),
    ]:
        answer = await http.call(method, f"/{path.format(instance.id)}", json=body)
        assert answer.status_code == 409, (path, answer.text)
        waits_for = f" for this. It waits to boot: {reason}"
        assert answer.json()["detail"].endswith(waits_for), (path, answer.text)


async def test_an_absent_engine_is_a_502_that_says_so(http: Api) -> None:
    instance = await http.world.created()
    http.world.engine.failing["pause"] = EngineUnavailable("The engine is on holiday.")
    answer = await http.post(f"/v1/instances/{instance.id}/stop")
    assert (answer.status_code, answer.json()) == (502, {"detail": "The engine is on holiday."})


@pytest.mark.parametrize("status", list(InstanceStatus))
async def test_deleting_has_an_empty_answer_and_leaves_a_terminated_row(
    http: Api, status: InstanceStatus
) -> None:
    instance = await http.world.placed(status)
    http.world.engine.put(instance.sandbox_id, SandboxState.RUNNING)
    answer = await http.call("DELETE", f"/v1/instances/{instance.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    view = await http.get(f"/v1/instances/{instance.id}")
    assert (view.status_code, view.json()["status"]) == (200, "terminated")
    assert http.world.engine.containers == {}


async def test_a_deleted_instance_leaves_no_content_in_the_database(http: Api) -> None:
    world = http.world
    agent = await world.created(openclaw_config={"agents.defaults.systemPrompt": "planted"})

    async def use(key: str) -> None:
        """Leaves what messages and new keys leave, which may be after a delete."""
        now, session = world.clock.now, "agent:main:s-1"
        await SessionQueries(world.database).remember(agent.id, "planted", session, now)
        world.histories.put(agent.id, session, ConversationHistory("planted"))
        await world.histories.write()
        answer = KeptAnswer("planted", "application/json", b"planted")
        await world.idempotent_answers.add(MessageKey(agent.id, session, "k"), answer, now)
        grants = {agent.id: frozenset(Permission)}
        await http.add_key(key, is_organization_key=False, grants=grants)

    await use("chd_sk_1")
    await http.call("DELETE", f"/v1/instances/{agent.id}")
    await use("chd_sk_2")
    view = (await http.get(f"/v1/instances/{agent.id}")).json()
    assert (view["openclaw_config"], view["error_message"]) == (None, None)
    async with world.database.reading() as session:
        connection = await session.connection()
        for table in METADATA.sorted_tables:
            if "instance_id" in table.c:
                rows = await connection.execute(
                    table.select().where(table.c.instance_id == agent.id)
                )
                assert rows.all() == [], table.name
        rows = await connection.execute(select(InstanceRow).where(InstanceRow.id == agent.id))
        assert rows.one().openclaw_config_ciphertext is None


async def test_a_deleted_instance_leaves_no_texts_of_its_model_calls(http: Api) -> None:
    world = http.world
    kept, agent = await world.created(), await world.created()
    rule = {"match": {"text": "hello"}, "reply": "Hi"}
    answer = await http.call("PUT", "/local/replies", json={"replies": [rule]})
    assert answer.status_code == 200
    for each in (kept, agent):
        log_call(http, each.id)
        request = ModelRequest(ModelProvider.OPENAI, "m", 1, each.id, is_session_known=True)
        await world.scripts.answer(world.organization_id, each.id, request)
    (call,) = http.world.call_log.of_instance(agent.id)
    await http.call("DELETE", f"/v1/instances/{agent.id}")
    assert (await http.get(f"/local/instances/{agent.id}/model-calls")).json() == []
    assert (await http.get(f"/local/model-calls/{call.id}")).status_code == 404
    recording = await http.get(f"/local/instances/{agent.id}/recording")
    assert recording.json() == {"entries": {}, "is_replayed": False}
    assert len((await http.get(f"/local/instances/{kept.id}/model-calls")).json()) == 1
    unmatched = (await http.get("/local/replies")).json()["own"]["unmatched"]
    assert [each["text"] for each in unmatched] == [kept.id]


async def test_a_change_returns_the_changed_instance(http: Api) -> None:
    instance = await http.world.created()
    body = {"name": "Bea", "openclaw_config": {"a.b": 1}}
    answer = await http.patch(f"/v1/instances/{instance.id}", json=body)
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in body} == body
    assert (await http.get(f"/v1/instances/{instance.id}")).json() == answer.json()


async def test_a_configuration_that_openclaw_refuses_is_a_400_with_its_message(http: Api) -> None:
    instance = await http.world.created()
    words = 'invalid config: agents: Unrecognized key: "nonsense"'
    http.world.gateway.rpc_answers["config.patch"] = refused(words)
    body = {"openclaw_config": {"agents.nonsense": 1}}
    answer = await http.patch(f"/v1/instances/{instance.id}", json=body)
    assert (answer.status_code, answer.json()) == (400, {"detail": words})


async def test_an_invalid_configuration_creates_no_instance_and_takes_no_place(
    http: Api,
) -> None:
    _, key = await http.world.organizations.signup("Small", tier=Tier.SHRIMP)
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    http.world.engine.image_files[SCHEMA_FILE] = json.dumps(schema).encode()
    body: dict[str, Any] = {"name": "Ada", "openclaw_config": {"a": 1}}
    answer = await http.post("/v1/instances", json=body, key=key)
    words = "invalid config: a: Invalid input: expected string, received number"
    assert (answer.status_code, answer.json()) == (400, {"detail": words})
    assert (await http.get("/v1/instances", key=key)).json() == []
    body["openclaw_config"] = {"a": "b"}
    assert (await http.post("/v1/instances", json=body, key=key)).status_code == 201


@pytest.mark.parametrize("config", [{"gateway.port": 1}, {"a..b": 1}])
async def test_a_reserved_setting_creates_no_instance(http: Api, config: dict[str, Any]) -> None:
    answer = await http.post("/v1/instances", json={"name": "Ada", "openclaw_config": config})
    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)
    assert (await http.get("/v1/instances")).json() == []


async def test_polls_and_messages_decrypt_nothing(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await http.world.created(openclaw_config={"logging": {"level": "debug"}})
    decrypt, decrypted = SecretBox.decrypt, []

    def counting(secret_box: SecretBox, ciphertext: bytes) -> str:
        decrypted.append(text := decrypt(secret_box, ciphertext))
        return text

    monkeypatch.setattr(SecretBox, "decrypt", counting)
    path = f"/v1/instances/{instance.id}"
    # A write empties the read cache.
    assert (await http.patch(path, json={"name": "Bea"})).status_code == 200
    decrypted.clear()
    assert (await http.get(f"{path}/status")).status_code == 200
    body = {"model": "gpt-4o", "input": "Hello"}
    assert (await http.post(f"{path}/responses", json=body)).status_code == 200
    assert not [text for text in decrypted if "logging" in text]
    # Otherwise the test would prove nothing.
    assert (await http.get(path)).json()["openclaw_config"] == {"logging": {"level": "debug"}}
    assert len([text for text in decrypted if "logging" in text]) == 1


async def test_a_call_that_openclaw_cannot_write_down_on_a_full_disk_is_a_507(http: Api) -> None:
    world = http.world
    instance = await world.created()
    failed = refused("gateway method failed before returning a response", 503)
    world.gateway.rpc_answers["config.patch"] = failed
    change = {"openclaw_config": {"logging.level": "debug"}}
    for free_bytes, status in ((0, 507), (10**9, 502)):
        world.engine.disk_free = free_bytes
        answer = await http.patch(f"/v1/instances/{instance.id}", json=change)
        assert (answer.status_code, "space" in answer.text) == (status, status == 507), answer.text


async def test_a_refusal_that_names_a_full_disk_is_a_507(http: Api) -> None:
    world = http.world
    instance = await world.created()
    message = "Error: database or disk is full: code=ERR_SQLITE_ERROR"
    world.gateway.rpc_answers["exec.approvals.get"] = refused(message, 503)
    world.programs.answers["sessions.reset"] = {
        "ok": False,
        "error": {"code": "UNAVAILABLE", "message": message},
    }
    agent = f"/local/instances/{instance.id}"
    for answer in (
        await http.get(f"{agent}/approvals/policy"),
        await http.post(f"{agent}/sessions/main/reset"),
    ):
        assert (answer.status_code, "no space is left" in answer.text) == (507, True), answer.text
