"""The gateway's client, against a scripted gateway on a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core import logs
from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import (
    ConfigNotApplied,
    ConfigRefused,
    GatewayUnavailable,
    MessageTooLarge,
    SandboxTooOld,
)
from chowder_local.core.tasks import KeyedLocks
from chowder_local.openclaw import gateway as gateway_module
from chowder_local.openclaw.gateway import PATCH_ATTEMPTS, Gateway, open_gateways
from chowder_local.openclaw.responses.inputs import MAX_MESSAGE_BYTES
from tests.scripted.gateway import ScriptedGateway, ok, refused
from tests.scripted.serving import eventually, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMITED = "rate limit exceeded for config.patch; retry after 0s"
STALE = "config changed since last load; re-run config.get and retry"


@asynccontextmanager
async def reaching(scripted: Any, *refused_sizes: tuple[int, int] | None) -> AsyncIterator[Gateway]:
    """The gateway's client; `refused_sizes` are those that the sandbox reports, one a failure."""

    async def next_sizes() -> tuple[int, int] | None:
        return next(sizes)

    sizes = iter(refused_sizes)
    async with serve(scripted) as url, open_gateways() as forwarder:
        lock = asyncio.Lock()
        yield Gateway(forwarder, url, "gw-token", lock, next_sizes if refused_sizes else None)


async def test_a_patch_waits_its_turn_where_openclaw_limits_their_rate() -> None:
    answers = [refused(LIMITED, 503), ok({})]
    scripted = ScriptedGateway(rpc_answers={"config.patch": answers})
    async with reaching(scripted) as gateway:
        assert await gateway.patch_config({"logging": {"level": "debug"}}) is False
    assert len(scripted.called("config.patch")) == 2


async def test_a_patch_over_the_rate_limit_fails() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(LIMITED, 503)})
    async with reaching(scripted) as gateway:
        with pytest.raises(GatewayUnavailable, match="rate limit"):
            await gateway.patch_config({"logging": {"level": "debug"}})
    assert len(scripted.called("config.patch")) == 2


async def test_a_gateway_that_is_not_there_is_not_started() -> None:
    async with open_gateways() as forwarder:
        assert not await Gateway(forwarder, "http://127.0.0.1:9", "gw-token").is_started()


async def test_a_gateway_gets_the_request_id() -> None:
    scripted = ScriptedGateway()
    async with reaching(scripted) as gateway:

        async def ask() -> None:
            async with gateway.respond({"input": "x"}, model="m", session=None) as answer:
                await answer.read()

        async def ask_for_a_request() -> None:
            logs.set_request("my-id")
            await ask()

        await asyncio.create_task(ask_for_a_request())
        await ask()
    ids = [sent_request.headers.get("x-request-id") for sent_request in scripted.messages]
    assert ids == ["my-id", None]


async def test_a_control_call_that_the_gateway_cannot_serve_is_no_refusal() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.get": refused("suspending", 503)})
    async with reaching(scripted) as gateway:
        with pytest.raises(GatewayUnavailable, match="suspending"):
            await gateway.call("config.get", {})


async def test_a_call_of_openclaws_own_clients_needs_an_image_that_has_one() -> None:
    listed: list[dict[str, int]] = [{"n": 1}]
    scripted = ScriptedGateway(rpc_answers={"exec.approval.list": ok(listed)})
    async with reaching(scripted) as gateway:
        assert await gateway.call_as_client("exec.approval.list", {}) == listed
        scripted.has_client = False
        with pytest.raises(SandboxTooOld, match=r"exec\.approval\.list.*image build"):
            await gateway.call_as_client("exec.approval.list", {})


async def test_a_patch_that_meets_another_writer_is_tried_again_and_given_up_in_the_end() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(STALE)})
    async with reaching(scripted) as gateway:
        with pytest.raises(GatewayUnavailable):
            await gateway.patch_config({"a": 1})
    assert len(scripted.called("config.get")) == PATCH_ATTEMPTS


async def test_changes_of_one_configuration_wait_for_each_other() -> None:
    scripted, locks = ScriptedGateway(), KeyedLocks()
    async with serve(scripted) as url, open_gateways() as forwarder, asyncio.TaskGroup() as group:
        one, two, other = (
            Gateway(forwarder, url, "gw-token", locks.holding(SandboxId(each)))
            for each in ("box", "box", "another")
        )
        async with one.hold_config():
            waiting = group.create_task(two.patch_config({"a": 1}))
            await other.patch_config({"b": 2})
            assert not waiting.done()
            assert [patch["raw"] for patch in scripted.called("config.patch")] == ['{"b": 2}']
    assert len(scripted.called("config.patch")) == 2


@pytest.mark.parametrize(("uptime_ms", "has_restarted"), [(1, True), (10_000_000, False)])
async def test_a_patch_that_is_not_answered_is_made_once_more(
    monkeypatch: pytest.MonkeyPatch, uptime_ms: int, has_restarted: bool
) -> None:
    monkeypatch.setattr(gateway_module, "PATCH_TIMEOUT_S", 0.2)
    scripted = ScriptedGateway(unanswered=["config.patch"], uptime_ms=uptime_ms)
    async with reaching(scripted) as gateway:
        assert await gateway.patch_config({"a": 1}) is has_restarted
        scripted.unanswered = 2 * ["config.patch"]
        with pytest.raises(GatewayUnavailable, match="too long"):
            await gateway.patch_config({"a": 1})
    assert len(scripted.called("config.patch")) == 4


async def test_a_patch_may_take_longer_than_other_control_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway_module, "RPC_TIMEOUT_S", 0.3)
    monkeypatch.setattr(gateway_module, "CONFIG_TIMEOUT_S", 1.0)
    scripted = ScriptedGateway(unanswered=["config.patch"])
    async with reaching(scripted) as gateway:
        with pytest.raises(GatewayUnavailable, match="may still change it"):
            await gateway.patch_config({"a": 1})
    assert scripted.unanswered == []


@pytest.mark.parametrize("requires_restart", [True, False])
async def test_a_patch_tells_whether_the_gateway_restarts(requires_restart: bool) -> None:
    scripted = ScriptedGateway(requires_restart=requires_restart)
    async with reaching(scripted) as gateway:
        assert await gateway.patch_config({"a": 1}) is requires_restart


async def test_an_array_is_replaced_and_not_merged() -> None:
    scripted = ScriptedGateway()
    async with reaching(scripted) as gateway:
        await gateway.patch_config({"a": {"b": [1], "c": {"d": []}}, "e": 1})
    (sent_request,) = scripted.called("config.patch")
    assert sent_request["replacePaths"] == ["a.b", "a.c.d"]


async def test_arrays_below_what_is_deleted_may_go_with_it() -> None:
    lost = "config.patch would remove entries from array path(s): a.b, a.c. Pass replacePaths with"
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(lost)})
    async with reaching(scripted) as gateway:
        with pytest.raises(ConfigRefused, match="would remove"):
            await gateway.patch_config({"a": None})
    first, second = scripted.called("config.patch")
    assert first["replacePaths"] == []
    assert second["replacePaths"] == ["a.b", "a.c"]


NOT_APPLIED = "config.patch persisted but was not applied to the active Gateway (failed)"
RESTARTING = "config.patch persisted and was accepted for restart; wait for the Gateway"


async def test_a_written_but_unusable_patch_is_not_a_refusal() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(NOT_APPLIED, 503)})
    async with reaching(scripted) as gateway:
        with pytest.raises(ConfigNotApplied, match="not applied"):
            await gateway.patch_config({"a": 1})


async def test_a_patch_succeeds_if_the_gateway_restarts_at_once() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(RESTARTING, 503)})
    async with reaching(scripted) as gateway:
        assert await gateway.patch_config({"a": 1})


async def test_a_gateway_that_cannot_be_patched_now_is_unavailable() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused("suspending", 503)})
    async with reaching(scripted) as gateway:
        with pytest.raises(GatewayUnavailable, match="suspending"):
            await gateway.patch_config({"a": 1})


FAILED = "gateway method failed before returning a response"
"""OpenClaw's answer if it refuses to write a configuration that has shrunk too much."""


def patches(scripted: ScriptedGateway) -> list[dict[str, Any]]:
    return [json.loads(params["raw"]) for params in scripted.called("config.patch")]


async def test_a_change_that_openclaw_finds_too_short_is_padded_and_the_padding_removed() -> None:
    answers = [refused(FAILED, 503), ok({})]
    scripted = ScriptedGateway(rpc_answers={"config.patch": answers})
    async with reaching(scripted, (50_000, 3_000)) as gateway:
        assert await gateway.patch_config({"a": 1}) is False
    _, padded, *removals = patches(scripted)
    assert padded["a"] == 1
    lengths = [3_000 + len(each["gateway"]["remote"]["sshIdentity"]) for each in removals[:-1]]
    lengths = [3_000 + len(padded["gateway"]["remote"]["sshIdentity"]), *lengths, 3_000]
    assert all(
        2 * after >= before for before, after in zip([50_000, *lengths], lengths, strict=False)
    )
    assert removals[-1] == {"gateway": {"remote": None}}


async def test_padding_that_could_not_be_removed_goes_with_the_next_change() -> None:
    answers = [refused(FAILED, 503), ok({}), refused("suspending", 503), ok({})]
    padded = {"config": {"gateway": {"remote": {"sshIdentity": "---"}}}}
    scripted = ScriptedGateway(rpc_answers={"config.patch": answers})
    async with reaching(scripted, (8_000, 3_000), None) as gateway:
        assert await gateway.patch_config({"a": 1}) is False
        scripted.rpc_answers["config.get"] = ok(padded)
        await gateway.patch_config({"a": 2})
    assert patches(scripted)[-1] == {"gateway": {"remote": None}, "a": 2}


async def test_a_change_that_no_padding_can_make_acceptable_is_refused_with_words() -> None:
    scripted = ScriptedGateway(rpc_answers={"config.patch": refused(FAILED, 503)})
    async with reaching(scripted, (4_000_000, 3_000)) as gateway:
        with pytest.raises(ConfigRefused, match="in several steps"):
            await gateway.patch_config({"a": 1})


async def test_a_restart_has_ended_when_the_uptime_is_less_than_the_wait() -> None:
    scripted = ScriptedGateway(uptime_ms=60_000)
    async with reaching(scripted) as gateway, asyncio.TaskGroup() as group:
        waiting = group.create_task(gateway.wait_for_restart(time.monotonic()))
        await eventually(lambda: scripted.probes > 0, "the gateway was asked")
        assert not waiting.done()
        scripted.uptime_ms = 0


async def test_a_call_that_comes_during_a_restart_waits_for_its_end() -> None:
    restarting = refused("config.get unavailable during gateway restart", 503)
    answers = [restarting, ok({"hash": "h"})]
    scripted = ScriptedGateway(uptime_ms=60_000, rpc_answers={"config.get": answers})
    async with reaching(scripted) as gateway, asyncio.TaskGroup() as group:
        calling = group.create_task(gateway.call("config.get", {}))
        await eventually(lambda: scripted.probes > 0, "the gateway was asked")
        assert len(scripted.called("config.get")) == 1
        scripted.uptime_ms = 0
    assert calling.result() == {"hash": "h"}


async def test_a_gateway_opens_its_conversations_for_one_that_it_has_not() -> None:
    scripted, is_asked = ScriptedGateway(), asyncio.Event()
    scripted.on_history = is_asked.set
    async with reaching(scripted) as gateway:
        await gateway.open_conversations()
        assert is_asked.is_set()
        scripted.history_status = 503
        with pytest.raises(GatewayUnavailable, match="HTTP 503"):
            await gateway.open_conversations()
    async with open_gateways() as forwarder:
        with pytest.raises(GatewayUnavailable, match="does not answer"):
            await Gateway(forwarder, "http://127.0.0.1:9", "gw-token").open_conversations()


async def test_a_message_that_the_gateway_would_not_take_is_not_sent() -> None:
    scripted = ScriptedGateway()
    async with reaching(scripted) as gateway:
        with pytest.raises(MessageTooLarge):
            async with gateway.respond(
                {"input": "x" * MAX_MESSAGE_BYTES}, model="chowder-openai/gpt-4o", session=None
            ):
                pass
    assert scripted.messages == []


async def test_a_message_goes_as_utf8_with_its_model_and_session() -> None:
    scripted = ScriptedGateway()
    async with (
        reaching(scripted) as gateway,
        gateway.respond(
            {"input": "Zoë 🦞"}, model="chowder-openai/gpt-4o", session="Zoë"
        ) as answer,
    ):
        await answer.read()
    (sent_request,) = scripted.messages
    assert sent_request.body == {"input": "Zoë 🦞"}
    assert sent_request.headers["x-openclaw-model"] == "chowder-openai/gpt-4o"
    assert sent_request.headers["x-openclaw-session-key"].startswith("agent:main:s-")
