"""People on this machine talk to a real agent in Slack, without the Internet."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.messengers.slack import MENTION
from tests.e2e.containers import config_of, container_of

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.occasional]

ANSWER_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 180.0
LONG = " ".join(f"word{number:04d}" for number in range(1200))


def test_people_on_this_machine_talk_to_an_agent_in_slack(
    api: Api, patient: str, engine: docker.DockerClient
) -> None:
    channel = f"instances/{patient}/channels/slack"

    def connect(**config: Any) -> tuple[int, Any]:
        # OpenClaw starts again for a changed environment.
        body = {"config": config}
        answer = api.post(f"{channel}/connect", json=body, timeout=CONNECT_TIMEOUT_S)
        return answer.status_code, answer.json()

    def say(person: str, text: str, **more: Any) -> str:
        body = {"from": person, "text": text, "wait_s": ANSWER_TIMEOUT_S, **more}
        path = f"../local/{channel}/messages"
        said = api.post(path, json=body, timeout=2 * ANSWER_TIMEOUT_S)
        assert said.status_code == 201, said.text
        assert said.json()["answers"], said.text
        for answer in said.json()["answers"]:
            place = {"group": answer["group"], "thread": answer["thread"]}
            assert place == {"group": more.get("group"), "thread": more.get("thread")}
        return "\n".join(answer["text"] for answer in said.json()["answers"])

    status, connected = connect(offline=True)
    assert (status, connected["status"]) == (200, "connected"), connected

    code = re.search(r"\b[A-HJ-NP-Z2-9]{8}\b", say("Ada", "Is anybody there?"))
    waiting = api.get(f"../local/{channel}/pairings").json()
    assert [each["code"] for each in waiting] == [code and code[0]]
    assert 'You said: "Hello <all> & welcome"' in say("Ada", "Hello <all> & welcome", approve=True)
    assert f'You said: "{MENTION} Hello"' in say("Ben", f"{MENTION} Hello", group="Team")
    assert 'Turn 1. You said: "' in say("Ben", f"{MENTION} Hi", group="Team", thread="Plans")

    replies = f"../local/instances/{patient}/replies"
    rule = {"match": {"equals": "Write"}, "reply": {"text": LONG}}
    assert api.put(replies, json={"replies": [rule]}).status_code == 200
    # Slack's messages have 8,000 characters at most.
    assert say("Ada", "Write").split() == LONG.split()
    assert api.delete(replies).status_code == 204

    status, refused = connect(bot_token="xoxb-1-2-planted", app_token="xapp-1-A-2-planted")
    assert status == 502, refused
    config = config_of(container_of(engine, api, patient))
    assert "/messengers/" not in json.dumps([config["channels"]["slack"], config.get("env")])
    assert config["channels"]["slack"]["appToken"] == "xapp-1-A-2-planted"
    assert api.post(f"{channel}/disconnect").status_code == 204
