"""Channels over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers import mailbox
from chowder_local.features.messengers.service import Messengers
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import APPROVE, LIST_PAIRINGS
from chowder_local.openclaw.gateway import CONTROL_PATH, RPC_PATH
from tests.scripted.gateway import ok, refused
from tests.scripted.serving import eventually
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import ModelCall
    from tests.api.conftest import Api
    from tests.scripted.world import World

PNG = "iVBORw0KGgo="
QR = f"data:image/png;base64,{PNG}"
UP = {"accountId": "default", "running": True, "connected": True, "lifecycle": "ready"}
STARTING = UP | {"connected": False, "lifecycle": "starting"}
REFUSED = {
    "accountId": "default",
    "running": False,
    "connected": False,
    "lifecycle": "blocked",
    "terminalDisconnect": True,
    "lastError": "Telegram bot token unauthorized",
}
FIELDS = {
    "line": ("channelAccessToken", "channelSecret"),
    "googlechat": ("audienceType", "audience"),
    "msteams": ("appId", "appPassword"),
}
RETRYING = STARTING | {"lastError": "getaddrinfo ENOTFOUND discord.com"}


def set_config(world: World, **channels: dict[str, Any]) -> None:
    """Sets OpenClaw's configuration of channels; it shows no secret."""
    world.gateway.rpc_answers["config.get"] = ok(
        {"hash": "hmac-sha256:v1:abc", "sourceConfig": {"channels": channels}}
    )


def set_states(world: World, channel: str, *accounts: dict[str, Any], **more: Any) -> None:
    """Sets the channel's accounts in the next status answers, one for each."""
    world.gateway.rpc_answers["channels.status"] = [
        ok({"channelAccounts": {channel: [each]}, **more}) for each in accounts
    ]


def patches(world: World) -> list[dict[str, Any]]:
    return [json.loads(params["raw"]) for params in world.gateway.called("config.patch")]


@pytest.fixture
async def path(world: World) -> str:
    instance = await world.created()
    set_config(world)
    return f"/v1/instances/{instance.id}/channels"


async def test_all_channels_are_listed_as_the_configuration_has_them(http: Api, path: str) -> None:
    set_config(
        http.world, telegram={"botToken": "…"}, slack={"enabled": False}, line={"enabled": True}
    )
    answer = await http.get(path)
    assert answer.status_code == 200
    result = {each["channel"]: each for each in answer.json()}
    assert len(result) == len(answer.json()) == 11
    assert {name for name, each in result.items() if each["enabled"]} == {"telegram", "line"}
    assert result["whatsapp"]["connection_type"] == "interactive"
    assert result["telegram"]["connection_type"] == "token"


async def test_a_channels_required_fields_need_no_key(http: Api) -> None:
    agent = await http.world.created()
    answer = await http.get(f"/v1/instances/{agent.id}/channels/matrix", key=None)
    assert answer.status_code == 200
    assert answer.json() == {
        "channel": "matrix",
        "connection_type": "token",
        "required_fields": {
            "homeserver": "The homeserver's URL.",
            "access_token": "The bot's access token; or give user_id and password instead.",
        },
    }


async def test_an_instance_that_does_not_exist_has_no_channels(http: Api) -> None:
    answer = await http.get("/v1/instances/whatever/channels/discord", key=None)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Instance not found."})


async def test_an_unknown_channel_is_a_404(http: Api, path: str) -> None:
    for answer in (
        await http.get(f"{path}/pigeon", key=None),
        await http.get(f"{path}/pigeon/status"),
        await http.post(f"{path}/pigeon/connect", json={}),
        await http.post(f"{path}/pigeon/pair", json={}),
        await http.post(f"{path}/pigeon/disconnect"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "Channel not found."})


async def test_connecting_writes_the_credentials_and_waits_for_the_channel(
    http: Api, path: str
) -> None:
    set_states(http.world, "telegram", {}, STARTING, UP)
    config = {"token": "123:secret", "api_root": "http://bots.test"}
    answer = await http.post(f"{path}/telegram/connect", json={"config": config})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "channel": "telegram",
        "status": "connected",
        "qr_data": None,
        "qr_image_base64": None,
        "message": "telegram is connected.",
    }
    wanted = {"botToken": "123:secret", "apiRoot": "http://bots.test"}
    assert patches(http.world) == [
        {"channels": {"telegram": {"enabled": True, "dmPolicy": "pairing", **wanted}}}
    ]


async def test_a_dm_policy_can_be_set_if_the_channel_has_one(http: Api, path: str) -> None:
    set_states(http.world, "matrix", UP)
    config: dict[str, Any] = {"homeserver": "https://m.test", "access_token": "x"}
    config["dm"] = {"allowFrom": ["@b:m.test"]}
    await http.post(f"{path}/matrix/connect", json={"config": config})
    (patch,) = patches(http.world)
    assert patch["channels"]["matrix"]["dm"] == {"policy": "pairing", "allowFrom": ["@b:m.test"]}
    assert "dmPolicy" not in patch["channels"]["matrix"]

    set_states(http.world, "telegram", UP)
    config = {"token": "1:x", "dm_policy": "disabled"}
    await http.post(f"{path}/telegram/connect", json={"config": config})
    assert patches(http.world)[-1]["channels"]["telegram"]["dmPolicy"] == "disabled"


async def test_a_missing_field_is_named(http: Api, path: str) -> None:
    answer = await http.post(f"{path}/slack/connect", json={"config": {"bot_token": ""}})
    assert answer.status_code == 422
    assert answer.json()["detail"] == [
        {"loc": ["body", "config", name], "msg": "Field required", "type": "missing"}
        for name in ("bot_token", "app_token")
    ]
    assert patches(http.world) == []


@pytest.mark.parametrize("body", [{}, {"config": None}, {"config": "token"}])
async def test_config_is_required(shared: Api, agent: Instance, body: dict[str, Any]) -> None:
    answer = await shared.post(f"/v1/instances/{agent.id}/channels/telegram/connect", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "config"]


async def test_saved_credentials_need_not_be_sent_again(http: Api, path: str) -> None:
    set_config(http.world, telegram={"botToken": "__OPENCLAW_REDACTED__", "enabled": False})
    set_states(http.world, "telegram", UP)
    answer = await http.post(f"{path}/telegram/connect", json={"config": {}})
    assert answer.json()["status"] == "connected"
    assert patches(http.world) == [
        {"channels": {"telegram": {"enabled": True, "dmPolicy": "pairing"}}}
    ]
    assert http.world.gateway.called("channels.start") == []


async def test_a_key_for_nostr_is_generated_once(http: Api, path: str) -> None:
    set_states(http.world, "nostr", UP)
    for saved in ({}, {"privateKey": "__OPENCLAW_REDACTED__"}):
        set_config(http.world, nostr=saved)
        answer = await http.post(f"{path}/nostr/connect", json={"config": {}})
        assert answer.json()["status"] == "connected"
    first, second = (each["channels"]["nostr"] for each in patches(http.world))
    assert len(bytes.fromhex(first["privateKey"])) == 32
    assert "privateKey" not in second


@pytest.mark.parametrize(
    ("config", "has_client"), [({}, True), ({"token": "1:as-before"}, True), ({}, False)]
)
async def test_connecting_a_channel_again_waits_for_another_attempt(
    http: Api, path: str, config: dict[str, Any], has_client: bool
) -> None:
    set_config(http.world, telegram={"botToken": "__OPENCLAW_REDACTED__", "enabled": True})
    failed = RETRYING | {"lastStartAt": 1}
    set_states(http.world, "telegram", failed, failed, failed | {"lastStartAt": 2})
    http.world.gateway.has_client = has_client
    for method in ("channels.stop", "channels.start"):
        http.world.gateway.rpc_answers[method] = ok({})
    answer = await http.post(f"{path}/telegram/connect", json={"config": config})
    assert answer.status_code == 502
    calls = [method for method, _ in http.world.gateway.rpc_calls if method.startswith("channels.")]
    look, stop, start = "channels.status", "channels.stop", "channels.start"
    assert calls == [look, stop, start, look, look]
    # A channel would serve people on behalf of a control call that is over.
    called = zip(http.world.gateway.rpc_calls, http.world.gateway.rpc_paths, strict=True)
    paths = {path for (method, _), path in called if method in {stop, start}}
    assert paths == {CONTROL_PATH if has_client else RPC_PATH}

    set_states(http.world, "telegram", UP)
    await http.post(f"{path}/telegram/connect", json={"config": config})
    assert len(http.world.gateway.called(stop)) == 1


@pytest.mark.parametrize("channel", ["line", "googlechat", "msteams"])
async def test_a_channel_whose_credentials_nobody_checks_says_so(
    http: Api, path: str, channel: str
) -> None:
    set_states(http.world, channel, UP)
    http.world.gateway.rpc_answers["config.get"] = ok(
        {"sourceConfig": {"channels": {channel: dict.fromkeys(FIELDS[channel], "x")}}}
    )
    answer = await http.post(f"{path}/{channel}/connect", json={"config": {}})
    assert answer.json()["status"] == "connected"
    assert "does not check its credentials" in answer.json()["message"]


async def test_a_refused_token_is_a_400(http: Api, path: str) -> None:
    set_states(http.world, "telegram", STARTING, REFUSED)
    answer = await http.post(f"{path}/telegram/connect", json={"config": {"token": "1:secret"}})
    assert answer.status_code == 400
    reason = "Telegram bot token unauthorized"
    assert answer.json() == {"detail": f"telegram is not connected: {reason}"}
    assert "secret" not in answer.text


async def test_an_unreachable_messenger_is_a_gateway_error(http: Api, path: str) -> None:
    set_states(http.world, "discord", STARTING, RETRYING)
    answer = await http.post(f"{path}/discord/connect", json={"config": {"token": "x"}})
    assert answer.status_code == 502
    assert answer.json()["detail"] == {
        "error": "discord is set up, but not connected yet: getaddrinfo ENOTFOUND discord.com."
    }


async def test_waiting_for_a_channel_ends_at_a_deadline(http: Api, path: str) -> None:
    set_states(http.world, "signal", STARTING)
    answer = await http.post(f"{path}/signal/connect", json={"config": {"account": "+1555"}})
    assert answer.status_code == 502
    assert answer.json()["detail"]["error"].endswith("not connected yet: starting.")


async def test_waiting_for_a_channel_ends_when_it_keeps_reconnecting(http: Api, path: str) -> None:
    set_states(http.world, "nostr", UP | {"connected": False, "lifecycle": "recovering"})
    answer = await http.post(f"{path}/nostr/connect", json={"config": {"private_key": "x"}})
    assert answer.status_code == 502
    assert answer.json()["detail"]["error"].endswith("not connected yet: recovering.")


@pytest.mark.parametrize(
    ("channel", "config", "also"),
    [
        ("msteams", {"app_id": "x", "app_password": "y"}, "tenant_id"),
        ("googlechat", {"audience_type": "app-url", "audience": "x"}, "service_account"),
    ],
)
async def test_a_field_that_openclaw_requires_in_addition_is_named(
    http: Api, path: str, channel: str, config: dict[str, Any], also: str
) -> None:
    unconfigured = {"configured": False, "running": False, "stateReason": "not configured"}
    set_states(http.world, channel, unconfigured)
    answer = await http.post(f"{path}/{channel}/connect", json={"config": config})
    assert answer.status_code == 400
    assert f"OpenClaw also needs {also}" in answer.json()["detail"]
    assert also in (await http.get(f"{path}/{channel}/status")).json()["details"]["reason"]


async def test_connecting_waits_until_the_configuration_is_applied(http: Api, path: str) -> None:
    http.world.gateway.rpc_answers["config.patch"] = refused(
        "config.patch persisted but was not applied to the active Gateway (failed)", 503
    )
    set_states(http.world, "telegram", {}, UP)
    answer = await http.post(f"{path}/telegram/connect", json={"config": {"token": "1:x"}})
    assert answer.json()["status"] == "connected"

    set_config(http.world, telegram={"botToken": "…"})
    http.world.gateway.rpc_answers["channels.stop"] = ok({})
    assert (await http.post(f"{path}/telegram/disconnect")).status_code == 204
    assert http.world.gateway.called("channels.stop") == [{"channel": "telegram"}]


async def test_a_refusal_by_openclaw_has_its_message(http: Api, path: str) -> None:
    words = 'invalid config: channels.telegram: Unrecognized key: "colour"'
    http.world.gateway.rpc_answers["config.patch"] = refused(words)
    config = {"token": "1:x", "colour": "red"}
    answer = await http.post(f"{path}/telegram/connect", json={"config": config})
    assert (answer.status_code, answer.json()) == (400, {"detail": words})


async def test_whatsapp_returns_a_qr_code_and_waits_for_its_scan(http: Api, path: str) -> None:
    world = http.world
    message = "Scan this QR in WhatsApp → Linked Devices."
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": QR, "message": message}),
        "web.login.wait": ok({"connected": True, "message": "Linked!"}),
    }
    answer = await http.post(f"{path}/whatsapp/connect", json={"config": {}})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "channel": "whatsapp",
        "status": "awaiting_scan",
        "qr_data": QR,
        "qr_image_base64": PNG,
        "message": message,
    }
    assert patches(world) == [{"channels": {"whatsapp": {"enabled": True, "dmPolicy": "pairing"}}}]
    await eventually(lambda: world.gateway.called("web.login.wait") != [], "the scan is awaited")


async def test_a_linked_whatsapp_needs_no_scan(http: Api, path: str) -> None:
    message = "WhatsApp is already linked (+1555). Say “relink” if you want a fresh QR."
    http.world.gateway.rpc_answers["web.login.start"] = ok({"message": message})
    set_states(http.world, "whatsapp", STARTING, UP)
    answer = await http.post(f"{path}/whatsapp/connect", json={"config": {}})
    assert (answer.json()["status"], answer.json()["qr_data"]) == ("connected", None)


@pytest.mark.parametrize(
    "said",
    [
        ok({"message": "WhatsApp login failed: getaddrinfo ENOTFOUND web.whatsapp.com"}),
        refused("WhatsApp login failed: getaddrinfo ENOTFOUND web.whatsapp.com"),
    ],
)
async def test_an_unreachable_whatsapp_is_a_gateway_error(
    http: Api, path: str, said: tuple[int, dict[str, Any]]
) -> None:
    http.world.gateway.rpc_answers["web.login.start"] = said
    answer = await http.post(f"{path}/whatsapp/connect", json={"config": {}})
    assert answer.status_code == 502
    assert "ENOTFOUND web.whatsapp.com" in answer.json()["detail"]["error"]


async def test_the_status_has_the_reason_why_a_channel_is_not_connected(
    http: Api, path: str
) -> None:
    set_config(http.world, telegram={"botToken": "…"})
    issue = {"channel": "telegram", "message": "Not authorized"}
    set_states(http.world, "telegram", REFUSED, statusIssues=[issue, {"channel": "line"}])
    answer = await http.get(f"{path}/telegram/status")
    assert answer.status_code == 200
    assert answer.json() == {
        "channel": "telegram",
        "enabled": True,
        "connected": False,
        "details": {
            "reason": "Telegram bot token unauthorized",
            "account": REFUSED,
            "issues": [issue],
        },
    }


@pytest.mark.parametrize(
    ("account", "is_connected"),
    [
        (UP, True),
        (UP | {"connected": None}, True),
        (STARTING, False),
        (RETRYING | {"connected": None}, False),
        (UP | {"running": False}, False),
    ],
)
async def test_the_status_says_whether_messages_come_through(
    http: Api, path: str, account: dict[str, Any], is_connected: bool
) -> None:
    set_config(http.world, line={"channelSecret": "…"})
    set_states(http.world, "line", account)
    status = (await http.get(f"{path}/line/status")).json()
    assert status["connected"] is is_connected
    reason = None if is_connected else account.get("lastError", account["lifecycle"])
    assert status["details"]["reason"] == reason


async def test_a_channel_without_configuration_has_an_empty_status(http: Api, path: str) -> None:
    http.world.gateway.rpc_answers["channels.status"] = ok({})
    assert (await http.get(f"{path}/nostr/status")).json() == {
        "channel": "nostr",
        "enabled": False,
        "connected": False,
        "details": {"reason": None, "account": {}, "issues": []},
    }


async def test_the_reason_of_a_channel_that_openclaw_does_not_run_says_so(
    http: Api, path: str
) -> None:
    set_config(http.world, nostr={"privateKey": "…"})
    http.world.gateway.rpc_answers["channels.status"] = ok({})
    status = (await http.get(f"{path}/nostr/status")).json()
    assert (status["enabled"], status["connected"]) == (True, False)
    assert "does not run this channel" in status["details"]["reason"]


async def test_openclaws_default_account_is_the_one_in_the_status(http: Api, path: str) -> None:
    set_config(http.world, line={})
    http.world.gateway.rpc_answers["channels.status"] = ok(
        {
            "channelAccounts": {"line": [{"accountId": "a"}, UP | {"accountId": "b"}]},
            "channelDefaultAccountId": {"line": "b"},
        }
    )
    assert (await http.get(f"{path}/line/status")).json()["connected"] is True


async def test_disconnecting_keeps_the_credentials(http: Api, path: str) -> None:
    set_config(http.world, telegram={"botToken": "…"})
    answer = await http.post(f"{path}/telegram/disconnect")
    assert (answer.status_code, answer.content) == (204, b"")
    assert patches(http.world) == [{"channels": {"telegram": {"enabled": False}}}]


async def test_disconnecting_twice_changes_nothing(http: Api, path: str) -> None:
    set_config(http.world, telegram={"botToken": "…", "enabled": False})
    for channel in ("telegram", "discord"):
        assert (await http.post(f"{path}/{channel}/disconnect")).status_code == 204
    assert patches(http.world) == []


async def test_a_pairing_code_approves_its_sender(http: Api, path: str) -> None:
    output = "Approved telegram sender 555."
    http.world.programs.answers[APPROVE] = {"status": 0, "output": output}
    answer = await http.post(f"{path}/telegram/pair", json={"code": " abcd2345 "})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "channel": "telegram",
        "code": "abcd2345",
        "status": "paired",
        "output": output,
    }
    assert http.world.programs.called(APPROVE) == [{"channel": "telegram", "code": "abcd2345"}]


async def test_an_unknown_pairing_code_is_a_404(http: Api, path: str) -> None:
    said = 'Reason: No pending pairing request found for code "ZZZZ9999".'
    http.world.programs.answers[APPROVE] = {"status": 1, "output": said}
    answer = await http.post(f"{path}/telegram/pair", json={"code": "ZZZZ9999"})
    assert (answer.status_code, answer.json()) == (
        404,
        {"detail": "No pending pairing request has this code."},
    )


async def test_pairing_on_a_channel_without_pairing_is_refused(http: Api, path: str) -> None:
    said = "Failed.\nReason: Channel mattermost does not support pairing"
    http.world.programs.answers[APPROVE] = {"status": 1, "output": said}
    answer = await http.post(f"{path}/mattermost/pair", json={"code": "ZZZZ9999"})
    assert answer.status_code == 400
    assert "mattermost does not support pairing" in answer.json()["detail"]


@pytest.mark.parametrize("code", [None, "", "  ", "A B", "--notify", "A" * 65, 12345678])
async def test_a_malformed_pairing_code_is_a_422(shared: Api, agent: Instance, code: Any) -> None:
    answer = await shared.post(
        f"/v1/instances/{agent.id}/channels/telegram/pair", json={"code": code}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "code"]


async def test_an_approval_that_takes_too_long_is_a_gateway_error(http: Api, path: str) -> None:
    http.world.programs.failing = TimeoutError()
    answer = await http.post(f"{path}/telegram/pair", json={"code": "ZZZZ9999"})
    assert answer.status_code == 502
    assert "was not approved in time" in answer.json()["detail"]["error"]


async def test_a_gateway_that_does_not_answer_is_a_gateway_error(http: Api, path: str) -> None:
    http.world.programs.failing = GatewayUnavailable("the sandbox does not answer")
    answer = await http.post(f"{path}/telegram/pair", json={"code": "ZZZZ9999"})
    assert answer.status_code == 502


async def test_channels_need_a_running_agent(http: Api) -> None:
    instance = await http.world.placed(InstanceStatus.STOPPED)
    path = f"/v1/instances/{instance.id}/channels"
    for answer in (
        await http.get(path),
        await http.get(f"{path}/telegram/status"),
        await http.post(f"{path}/telegram/connect", json={"config": {"token": "x"}}),
        await http.post(f"{path}/telegram/pair", json={"code": "ABCD2345"}),
        await http.post(f"{path}/telegram/disconnect"),
    ):
        assert answer.status_code == 409
    assert (await http.get(f"{path}/telegram")).status_code == 200


async def test_those_who_wait_for_an_approval_are_listed(http: Api, path: str) -> None:
    pairings = f"{path}/telegram/pairings".replace("/v1/", "/local/")
    request = {
        "id": "555",
        "code": "ABCD2345",
        "createdAt": "2026-11-30T12:00:00.000Z",
        "lastSeenAt": "2026-11-30T12:05:00.000Z",
        "meta": {"username": "ada"},
    }
    http.world.programs.answers[LIST_PAIRINGS] = {"requests": [request]}
    answer = await http.get(pairings)
    assert answer.status_code == 200, answer.text
    (waiting,) = answer.json()
    assert (waiting["code"], waiting["sender"]) == ("ABCD2345", "555")

    http.world.programs.answers[LIST_PAIRINGS] = {"error": "Channel line does not support pairing"}
    answer = await http.get(pairings)
    assert (answer.status_code, "does not support" in answer.json()["detail"]) == (400, True)
    http.world.programs.answers[LIST_PAIRINGS] = {"requests": [{"code": 5}]}
    assert (await http.get(pairings)).status_code == 502


async def test_a_local_channel_that_does_not_connect_again_by_itself_is_started_again(
    http: Api, path: str
) -> None:
    relays = ["ws://relay.local:2470/messengers/nostr/1/2"]
    set_config(http.world, nostr={"relays": relays})
    messages = f"{path.replace('/v1', '/local', 1)}/nostr/messages"
    lost = STARTING | {"lifecycle": "recovering"}
    for account, starts in ((UP, 0), (STARTING, 0), (lost, 1)):
        set_states(http.world, "nostr", account)
        answer = await http.post(messages, json={"from": "Ada", "text": "Hello"})
        assert answer.status_code == 201, answer.text
        assert len(http.world.gateway.called("channels.start")) == starts


@pytest.mark.parametrize("channel", ["line", "slack", "whatsapp"])
async def test_an_agent_whose_image_is_too_old_for_a_local_messenger_says_so(
    http: Api, path: str, channel: str
) -> None:
    http.world.gateway.diverts = False
    answer = await http.post(f"{path}/{channel}/connect", json={"config": {"offline": True}})
    assert answer.status_code == 409
    assert "Build the present image with `chowder-local image build`" in answer.text
    assert patches(http.world) == []


async def test_what_a_channel_does_not_have_is_refused(http: Api, path: str) -> None:
    messages = f"{path.replace('/v1', '/local', 1)}/nostr/messages"
    body = {"from": "Ada", "group": "Team", "image": PNG}
    answer = await http.post(messages, json=body)
    assert answer.status_code == 422
    found = {(each["loc"][-1], each["msg"]) for each in answer.json()["detail"]}
    lacks = "the local messenger has no {}s in nostr"
    assert found == {(each, lacks.format(each)) for each in ("group", "image")}


async def test_channels_are_offline_if_the_server_is_set_so(tmp_path: Path) -> None:
    async with open_world(tmp_path, messengers="offline") as world:
        instance = await world.created()
        telegram = CHANNELS["telegram"]
        set_config(world)
        fields = {"token": "123:real", "groupPolicy": "disabled", "mediaMaxMb": 3}
        for given in (fields, fields | {"offline": False}):
            set_states(world, "telegram", UP)
            await world.channels.connect(instance, telegram, given)
    local, real = (each["channels"]["telegram"] for each in patches(world))
    assert "/messengers/telegram/" in local["apiRoot"]
    assert local["botToken"] != "123:real"
    assert (local["groupPolicy"], local["mediaMaxMb"]) == ("disabled", 3)
    assert (real["botToken"], "apiRoot" in real, "offline" in real) == ("123:real", False, False)


async def test_an_answer_in_teams_comes_at_once_unless_a_client_wants_it_in_parts(
    http: Api, path: str
) -> None:
    set_states(http.world, "msteams", UP)
    parts = {"streaming": {"mode": "partial"}}
    for given in ({}, parts):
        config = {"offline": True, **given}
        answer = await http.post(f"{path}/msteams/connect", json={"config": config})
        assert answer.status_code == 200, answer.text
    ours, theirs = (each["channels"]["msteams"]["streaming"] for each in patches(http.world))
    assert (ours, theirs) == ({"mode": "block"}, parts["streaming"])


async def test_real_credentials_are_needed_to_leave_the_local_messenger(
    http: Api, path: str
) -> None:
    set_config(http.world, telegram={"apiRoot": "http://relay.local:2470/messengers/telegram/1"})
    answer = await http.post(f"{path}/telegram/connect", json={"config": {"offline": False}})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "config", "token"]


async def test_what_a_local_messenger_has_set_is_removed_with_it(http: Api, path: str) -> None:
    set_states(http.world, "slack", UP)
    answer = await http.post(f"{path}/slack/connect", json={"config": {"offline": True}})
    assert answer.status_code == 200, answer.text
    (local,) = patches(http.world)
    assert "/messengers/slack/" in local["channels"]["slack"]["relay"]["url"]
    # Anything outside the channel's section would have OpenClaw restart.
    assert [*local, *local["channels"]] == ["channels", "slack"]

    set_config(http.world, slack=local["channels"]["slack"])
    real = {"bot_token": "xoxb-1", "app_token": "xapp-1"}
    await http.post(f"{path}/slack/connect", json={"config": real})
    patch = patches(http.world)[-1]
    assert patch["channels"]["slack"]["relay"] is None
    assert patch["channels"]["slack"]["botToken"] == "xoxb-1"


async def test_a_channel_that_does_not_fetch_a_message_is_connected_again(
    http: Api, path: str
) -> None:
    set_states(http.world, "slack", UP)
    set_config(http.world, slack={"relay": {"url": "http://relay.local:2470/messengers/slack/i"}})
    for method in ("channels.stop", "channels.start"):
        http.world.gateway.rpc_answers[method] = ok({})
    messages = f"{path.replace('/v1', '/local', 1)}/slack/messages"
    for wait_s, starts in ((0, 0), (0.01, 1)):
        body = {"from": "Ada", "text": "Hello", "wait_s": wait_s}
        assert (await http.post(messages, json=body)).status_code == 201
        assert len(http.world.gateway.called("channels.start")) == starts


async def test_an_answer_is_waited_for_while_the_agent_calls_its_model_or_a_tool(
    http: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, instance_id = http.world, path.split("/")[3]
    set_config(world, telegram={"apiRoot": "http://relay.local:2470/messengers/telegram/i"})
    monkeypatch.setattr(mailbox, "ANSWER_QUIET_S", 0.01)
    looks: list[str] = []
    of_instance = world.call_log.of_instance

    def look(instance_id: InstanceId) -> Iterator[ModelCall]:
        looks.append(instance_id)
        return of_instance(instance_id)

    monkeypatch.setattr(world.call_log, "of_instance", look)
    messages = f"{path.replace('/v1', '/local', 1)}/telegram/messages"
    body = {"from": "Ada", "text": "How many?", "wait_s": 60}
    instance = await world.instances.get(InstanceId(instance_id))
    assert instance is not None
    box = await world.feature(Messengers).mailbox(instance, "telegram")
    async with owned_tasks() as tasks:
        said = tasks.create_task(http.post(messages, json=body))
        await eventually(lambda: bool(box.messages), "Ada has written")
        call = world.call_log.begin(
            world.organization_id, instance.id, "anthropic", "v1/messages", b"{}"
        )
        await box.add("agent", person="Ada", text="Working")
        await eventually(lambda: len(looks) >= 2, "the model's answer is waited for")
        call.content_type = "application/json"
        tool = {"type": "tool_use", "id": "t1", "name": "exec", "input": {}}
        call.append(json.dumps({"type": "message", "content": [tool]}).encode())
        call.finish("ok")
        seen = len(looks)
        await eventually(lambda: len(looks) >= seen + 2, "the tool is waited for")
        await box.add("agent", person="Ada", text="Four")
        last = world.call_log.begin(
            world.organization_id, instance.id, "anthropic", "v1/messages", b"{}"
        )
        last.finish("ok")
        answers = [each["text"] for each in (await said).json()["answers"]]
    assert answers == ["Working", "Four"]
