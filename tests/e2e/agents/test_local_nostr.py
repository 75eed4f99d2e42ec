"""Nostr without the Internet, on a real agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.test_channels import connect, disconnect

if TYPE_CHECKING:
    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.occasional]


def test_nostr_answers_a_person_on_this_machine(
    api: Api, patient: str, server: ServerProcess
) -> None:
    local = f"../local/instances/{patient}"
    messages = f"{local}/channels/nostr/messages"

    def answers(text: str, **more: Any) -> list[str]:
        answer = api.post(messages, json={"from": "Nora", "text": text, "wait_s": 50, **more})
        assert answer.status_code == 201, answer.text
        return [each["text"] for each in answer.json()["answers"]]

    assert connect(api, patient, "nostr", {"offline": True}).status_code == 200
    (challenge,) = answers("Is anybody there?")
    (waiting,) = api.get(f"{local}/channels/nostr/pairings").json()
    assert waiting["code"] in challenge
    assert "Hello" in answers("Hello 😀", approve=True)[0]
    rule = {"match": {"equals": "Everything"}, "reply": ["word " * 2200]}
    assert api.put(f"{local}/replies", json={"replies": [rule]}).status_code == 200
    assert len(answers("Everything")[0]) > 10_000
    assert api.delete(f"{local}/replies").status_code == 204

    server.down()
    server.up()
    assert "Still there?" in answers("Still there?")[0]
    real = connect(api, patient, "nostr", {"relays": ["wss://relay.invalid"]})
    assert real.status_code == 502
    assert api.post(messages, json={"from": "Nora", "text": "Hi"}).status_code == 409
    disconnect(api, patient, "nostr")
