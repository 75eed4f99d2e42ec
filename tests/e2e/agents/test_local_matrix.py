"""Matrix without the Internet, on a real agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.test_channels import connect, disconnect
from tests.e2e.agents.test_local_signal import PICTURE
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.occasional]


def test_matrix_answers_a_person_on_this_machine(api: Api, patient: str) -> None:
    local = f"../local/instances/{patient}"
    messages = f"{local}/channels/matrix/messages"

    def answers(person: str, text: str, **more: Any) -> list[dict[str, Any]]:
        body = {"from": person, "text": text, "wait_s": 50, **more}
        answer = api.post(messages, json=body)
        assert answer.status_code == 201, answer.text
        found: list[dict[str, Any]] = answer.json()["answers"]
        return found

    assert connect(api, patient, "matrix", {"offline": True}).status_code == 200
    (challenge,) = answers("Max", "Is anybody there?")
    (waiting,) = api.get(f"{local}/channels/matrix/pairings").json()
    assert waiting["code"] in challenge["text"]
    # OpenClaw would else go on to refuse them for half a minute.
    assert "Hello" in answers("Max", "Hello", approve=True)[0]["text"]
    assert "media attached" in answers("Max", "Look", image=PICTURE)[0]["text"]
    (answer,) = answers("Eve", "@agent_bot Hi", group="Team", thread="Plans")
    assert (answer["group"], answer["thread"], "Hi" in answer["text"]) == ("Team", "Plans", True)
    found = api.get(messages, params={"group": "Team"}).json()
    assert [each["of"] for each in found if each["kind"] == "reaction"] == [found[0]["id"]]

    rule = {"match": {"equals": "Everything"}, "reply": ["word " * 2200]}
    assert api.put(f"{local}/replies", json={"replies": [rule]}).status_code == 200
    (first, *_) = answers("Max", "Everything")
    # More than a second may pass between its parts.
    after = {"after": first["id"] - 1}
    eventually(
        lambda: (
            sum(len(each["text"] or "") for each in api.get(messages, params=after).json()) > 10_000
        ),
        "all parts of the answer come",
    )
    assert api.delete(f"{local}/replies").status_code == 204
    real = {"homeserver": "https://matrix.invalid", "access_token": "planted"}
    assert connect(api, patient, "matrix", real).status_code == 502
    assert api.post(messages, json={"from": "Max", "text": "Hi"}).status_code == 409
    disconnect(api, patient, "matrix")
