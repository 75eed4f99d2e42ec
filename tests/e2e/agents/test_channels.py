"""The messengers of a real agent: telegram, and those without a local messenger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.features.messengers.stand_in import MENTION
from tests.e2e.agents.local_channel import LONG, PNG, LocalChannel
from tests.e2e.bots import TOKEN, BotApi
from tests.e2e.containers import container_of, inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    import httpx

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

CHANNELS = "/opt/openclaw/channels/package.json"
MARKED = "**Tom & Jerry**: [1 < 2](https://a.example/?a=1&b=2)\n```sh\nrun\n```"
REPLY_TIMEOUT_S = 60.0
PLAUSIBLE: dict[str, dict[str, Any]] = {
    "discord": {"token": "MTIzNDU2Nzg5MDEyMzQ1Njc4.GplAnT.ed-token-3b9d2e1f"},
    "googlechat": {"audience_type": "app-url", "audience": "https://a.example/googlechat"},
    "msteams": {"app_id": "00000000-0000-4000-8000-000000000001", "app_password": "planted"},
    "line": {"channel_access_token": "planted", "channel_secret": "planted"},
}


@pytest.fixture
def bots() -> Iterator[BotApi]:
    with BotApi() as bots:
        yield bots


def connect(api: Api, instance_id: str, channel: str, config: dict[str, Any]) -> httpx.Response:
    return api.post(f"instances/{instance_id}/channels/{channel}/connect", json={"config": config})


def status(api: Api, instance_id: str, channel: str) -> dict[str, Any]:
    answer = api.get(f"instances/{instance_id}/channels/{channel}/status")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def disconnect(api: Api, instance_id: str, channel: str) -> None:
    answer = api.post(f"instances/{instance_id}/channels/{channel}/disconnect")
    assert answer.status_code == 204, answer.text
    assert not status(api, instance_id, channel)["enabled"]


def connect_telegram(api: Api, instance_id: str, config: dict[str, Any]) -> None:
    answer = connect(api, instance_id, "telegram", config)
    assert (answer.status_code, answer.json().get("status")) == (200, "connected"), answer.text
    assert status(api, instance_id, "telegram")["connected"] is True


def test_people_on_this_machine_talk_to_an_agent_in_telegram(api: Api, patient: str) -> None:
    telegram = LocalChannel(api, patient, "telegram")
    telegram.connect_offline()
    approve = f"{telegram.path}/pairings/{telegram.code_for('Ada')}/approve"
    assert api.post(approve).status_code == 204
    assert 'You said: "What is it like inside?"' in telegram.say("Ada", "What is it like inside?")
    # OpenClaw's whole command line, which takes as long as a boot.
    path = f"instances/{patient}/channels/telegram/pair"
    paired = api.post(path, json={"code": telegram.code_for("Ben").lower()})
    assert (paired.status_code, paired.json()["status"]) == (200, "paired"), paired.text
    assert 'You said: "Hello"' in telegram.say("Ben", "Hello")

    answer = telegram.say("Cy", f"{MENTION} Hi", group="Team")
    assert answer == f'[offline] Turn 1. You said: "{MENTION} Hi"'
    assert "[media attached" in telegram.say("Ada", "What is on it?", image=PNG)
    telegram.script(
        {"match": {"equals": "Say it"}, "reply": ["Said."]},
        {"match": {"equals": "Write"}, "reply": {"text": LONG}},
        {"match": {"equals": "Mark"}, "reply": {"text": MARKED}},
    )
    assert telegram.say("Ada", "Say it") == "Said."
    assert telegram.say("Ada", "Write").split() == LONG.split()
    assert telegram.say("Ada", "Mark").split() == ["Tom", "&", "Jerry:", "1", "<", "2", "run"]
    assert "parse_mode" in telegram.messages()[-1]["payload"]
    telegram.say_late("Ada")
    telegram.script()
    assert {each["kind"] for each in telegram.messages()} >= {"message", "typing"}

    telegram.disconnect()
    assert status(api, patient, "telegram")["connected"] is False
    assert api.delete(f"{telegram.path}/messages").status_code == 204


@pytest.mark.nightly
def test_telegram_is_connected_again_and_refuses_a_token_that_is_wrong(
    api: Api, patient: str, bots: BotApi, server: ServerProcess
) -> None:
    connect_telegram(api, patient, {"token": TOKEN, "api_root": bots.url})
    disconnect(api, patient, "telegram")
    connect_telegram(api, patient, {})

    disconnect(api, patient, "telegram")
    with bots.gone():
        assert connect(api, patient, "telegram", {}).status_code == 502
    # By itself, OpenClaw would try again only after a while.
    connect_telegram(api, patient, {})

    wrong = connect(api, patient, "telegram", {"token": "123456:another"})
    assert wrong.status_code == 400, wrong.text
    assert "nauthorized" in wrong.json()["detail"]
    found = status(api, patient, "telegram")
    assert (found["enabled"], found["connected"]) == (True, False)
    assert "nauthorized" in found["details"]["reason"]
    disconnect(api, patient, "telegram")
    assert TOKEN not in server.log()


@pytest.mark.nightly
@pytest.mark.parametrize("channel", sorted(PLAUSIBLE))
def test_a_channel_is_run_by_openclaw_with_what_it_is_given(
    api: Api, patient: str, engine: docker.DockerClient, channel: str
) -> None:
    _, package = inside(container_of(engine, api, patient), f"cat {CHANNELS}")
    if f"@openclaw/{channel}" not in json.loads(package)["dependencies"]:
        pytest.skip(f"this OpenClaw release has no channel {channel}")
    answer = connect(api, patient, channel, PLAUSIBLE[channel])
    found = status(api, patient, channel)
    assert found["enabled"]
    assert found["details"]["account"], "OpenClaw does not know the channel"
    assert (answer.status_code == 200) is found["connected"], answer.text
    if not found["connected"]:
        assert answer.status_code in {400, 502}, answer.text
        assert found["details"]["reason"]
    for secret in PLAUSIBLE[channel].values():
        if "planted" in secret:
            assert secret not in answer.text
            assert secret not in str(found)
    disconnect(api, patient, channel)


@pytest.mark.nightly
def test_whatsapp_out_of_reach_says_so(api: Api, patient: str) -> None:
    # Another test may have connected it to the local messenger, to which it would come back.
    answer = connect(api, patient, "whatsapp", {"offline": False})
    if answer.status_code == 200:
        # Somewhere with the Internet.
        assert answer.json()["status"] == "awaiting_scan"
        assert answer.json()["qr_data"].startswith("data:image/png;base64,")
    else:
        assert answer.status_code == 502, answer.text
        assert "web.whatsapp.com" in answer.json()["detail"]["error"]
    disconnect(api, patient, "whatsapp")
