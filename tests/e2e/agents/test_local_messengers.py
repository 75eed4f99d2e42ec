"""People on this machine talk to a real agent in messengers, without the Internet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.features.messengers.stand_in import MENTION
from tests.e2e.agents.local_channel import LONG, PNG, LocalChannel
from tests.e2e.containers import config_of, container_of
from tests.e2e.plugin_runs import run
from tests.e2e.test_javascript import helped

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [
    pytest.mark.docker,
    pytest.mark.nightly,
    pytest.mark.usefixtures("channels_disconnected"),
]

REACT = {"call": "message", "arguments": {"action": "react", "emoji": "👍"}}


@dataclass(frozen=True)
class Messenger:
    """What a messenger has, and credentials with which OpenClaw looks for the real one in vain."""

    name: str
    real: dict[str, Any]
    has_groups: bool = True
    has_threads: bool = True
    takes_pictures: bool = True
    caption: str = "Look"
    sends_codes: bool = True
    is_checked: bool = True
    """Whether OpenClaw looks for the real one when it connects."""
    greeting: str = "Hello <all> & welcome"


MESSENGERS = [
    Messenger("discord", {"token": "planted"}),
    Messenger(
        "googlechat",
        {
            "audience_type": "project-number",
            "audience": "2",
            "service_account": '{"client_email": "a@b.c", "private_key": "planted"}',
        },
        # OpenClaw answers in the space.
        has_threads=False,
        is_checked=False,
    ),
    Messenger(
        "line",
        {"channel_access_token": "planted", "channel_secret": "planted"},
        has_threads=False,
        caption="",
        is_checked=False,
    ),
    Messenger(
        "msteams",
        {"app_id": "planted", "app_password": "planted", "tenant_id": "planted"},
        sends_codes=False,
        is_checked=False,
    ),
    Messenger("matrix", {"homeserver": "https://matrix.invalid", "access_token": "planted"}),
    Messenger("mattermost", {"base_url": "http://127.0.0.1:9", "bot_token": "planted"}),
    Messenger(
        "nostr",
        {"relays": ["wss://relay.invalid"]},
        has_groups=False,
        has_threads=False,
        takes_pictures=False,
    ),
    Messenger("signal", {"account": "+15550100"}, has_threads=False),
    Messenger("slack", {"bot_token": "xoxb-1-2-planted", "app_token": "xapp-1-A-2-planted"}),
    Messenger(
        "whatsapp",
        {"offline": False},
        has_groups=False,
        has_threads=False,
        takes_pictures=False,
        # Of what an agent says in WhatsApp, OpenClaw removes what looks like HTML.
        greeting="Hello & welcome",
    ),
]


IN_PYTEST = """
import re
import pytest

def test_people_talk(chowder_common_instance, chowder_messenger, chowder_replies):
    chowder_replies.add("Hello, Ada.", text="Good morning")
    chowder_replies.add("Hello, Bob.", text="Good night")
    telegram = chowder_messenger("telegram", chowder_common_instance)
    ada = telegram.person("Ada")
    given = re.search(r"approve telegram (\\w+)", ada.say("Good morning").answer)
    telegram.approve(given[1])
    assert ada.say("Good morning").answer == "Hello, Ada."
    said = telegram.person("Bob").approve().say("Good night", wait_s=0).message
    assert telegram.wait_for("Hello, Bob.", said["id"])["person"] == "Bob"
    (answer,) = telegram.group("Team", "Bob").say("@agent_bot Good night").answers
    assert answer["group"] == "Team"
    with pytest.raises(TimeoutError):
        telegram.wait_for("nothing", wait_s=0.01)

def test_what_was_said_is_gone(chowder_common_instance):
    agent = chowder_common_instance
    assert agent.client.channel_messages(agent.id, "telegram") == []
"""

each_messenger = pytest.mark.parametrize("messenger", MESSENGERS, ids=lambda each: each.name)


@each_messenger
def test_people_talk_to_an_agent_in_a_messenger(
    api: Api, patient: str, messenger: Messenger
) -> None:
    channel = LocalChannel(api, patient, messenger.name)
    channel.connect_offline()
    channel.code_for("Ada", is_sent=messenger.sends_codes)
    assert messenger.greeting in channel.say("Ada", messenger.greeting, approve=True)
    if messenger.has_groups:
        assert "Hello" in channel.say("Ben", f"{MENTION} Hello", group="Team")
    if messenger.has_threads:
        assert "Hi" in channel.say("Ben", f"{MENTION} Hi", group="Team", thread="Plans")
    if messenger.takes_pictures:
        assert "[media attached" in channel.say("Ada", messenger.caption, image=PNG)

    channel.script({"match": {"equals": "Write"}, "reply": {"text": LONG}})
    assert channel.say("Ada", "Write").split() == LONG.split()
    channel.say_late("Ada")
    channel.script()


@pytest.mark.timeout(900)  # Ten channels on one agent, on a machine that does much else.
def test_all_channels_of_an_agent_outlive_its_stop_and_the_end_of_the_server(
    api: Api, patient: str, server: ServerProcess
) -> None:
    channels = [LocalChannel(api, patient, each.name) for each in MESSENGERS]
    for channel in channels:
        channel.connect_offline()
    api.stop(patient)
    server.down()
    server.up()
    api.start(patient)
    for channel in channels:
        assert "Still there?" in channel.say("Cy", "Still there?", approve=True)


@each_messenger
def test_credentials_that_are_real_lead_to_the_real_messenger(
    api: Api, patient: str, engine: docker.DockerClient, messenger: Messenger
) -> None:
    channel = LocalChannel(api, patient, messenger.name)
    channel.connect_offline()
    connected = channel.connect(**messenger.real)
    assert connected.status_code == (502 if messenger.is_checked else 200)
    config = config_of(container_of(engine, api, patient))
    assert "/messengers/" not in json.dumps(config["channels"][messenger.name])
    channel.disconnect()


@pytest.mark.parametrize("name", ["signal", "discord"])
def test_an_agent_reacts_to_a_persons_message(api: Api, patient: str, name: str) -> None:
    # Discord's plugin does it by a call of the gateway.
    channel = LocalChannel(api, patient, name)
    channel.connect_offline()
    channel.script({"match": {"equals": "Agreed?"}, "reply": [REACT, "Agreed."]})
    assert channel.answers("Cy", "Agreed?", approve=True) == ["Agreed."]
    channel.script()
    found = channel.messages()
    (question,) = [each for each in found if each["text"] == "Agreed?"]
    # In Discord, OpenClaw also marks each mention in a group.
    reactions = [each for each in found if each["kind"] == "reaction"]
    assert [each["of"] for each in reactions if each["id"] > question["id"]] == [question["id"]]


def test_tests_in_javascript_have_people_talk_to_an_agent_and_end_its_turns(
    server: ServerProcess, tmp_path: Path
) -> None:
    said = helped(tmp_path / "js", server, "messenger.test.js")
    assert "# pass 2\n" in said, said


def test_tests_in_pytest_have_people_talk_to_an_agent(
    server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "test_mine.py").write_text(IN_PYTEST)
    done = run(tmp_path, server)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
