"""Signal without the Internet, on a real agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.test_channels import connect, disconnect

if TYPE_CHECKING:
    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.occasional]

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP8z4APMOGVHbHSAEEsAROxCnMTAAAAAElF"
    "TkSuQmCC"
)


def test_signal_answers_a_person_on_this_machine(api: Api, patient: str) -> None:
    local = f"../local/instances/{patient}"
    messages = f"{local}/channels/signal/messages"

    def answers(person: str, text: str, **more: Any) -> list[str]:
        body = {"from": person, "text": text, "wait_s": 50, **more}
        answer = api.post(messages, json=body)
        assert answer.status_code == 201, answer.text
        return [each["text"] for each in answer.json()["answers"]]

    assert connect(api, patient, "signal", {"offline": True}).status_code == 200
    (challenge,) = answers("Sid", "Is anybody there?")
    (waiting,) = api.get(f"{local}/channels/signal/pairings").json()
    assert waiting["code"] in challenge
    assert "Hello" in answers("Sid", "Hello", approve=True)[0]
    assert "Hi" in answers("Eve", "@agent_bot Hi", group="Team")[0]
    assert "media attached" in answers("Sid", "Look", image=PICTURE)[0]
    refused = api.post(messages, json={"from": "Sid", "text": "Hi", "thread": "Plans"})
    assert refused.json()["detail"][0]["msg"] == "signal has no threads"

    call = {"call": "message", "arguments": {"action": "react", "emoji": "👍"}}
    rules = [
        {"match": {"equals": "Everything"}, "reply": ["word " * 2200]},
        {"match": {"equals": "Agreed?"}, "reply": [call, "Agreed."]},
    ]
    assert api.put(f"{local}/replies", json={"replies": rules}).status_code == 200
    assert len(answers("Sid", "Everything")) == 3
    assert answers("Sid", "Agreed?") == ["Agreed."]
    assert api.delete(f"{local}/replies").status_code == 204
    found = api.get(messages).json()
    question = next(each for each in found if each["text"] == "Agreed?")
    assert [each["of"] for each in found if each["kind"] == "reaction"] == [question["id"]]

    assert connect(api, patient, "signal", {"account": "+15550100"}).status_code == 502
    assert api.post(messages, json={"from": "Sid", "text": "Hi"}).status_code == 409
    disconnect(api, patient, "signal")
