"""Runs of a real agent: set back, replayed up to a call, run again on forks, and replayed anew."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.cli.main import run
from tests.e2e.agents.test_relay_upstreams import MODELS
from tests.e2e.api import text_of
from tests.e2e.copies import local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

COLOUR, QUESTION = "My colour is teal.", "How many are left?"
MARK = "echo 3 parcels; echo looked >>$HOME/.openclaw/workspace/looked.txt"


@pytest.fixture
def session(api: Api, instance: str) -> Iterator[str]:
    """A session in which the agent looks with a tool before it answers the question."""
    name = f"runs-{uuid.uuid4().hex}"
    local(api, "PUT", f"instances/{instance}/replies", json=looks_first(name))
    yield name
    local(api, "DELETE", f"instances/{instance}/replies")
    local(api, "DELETE", f"instances/{instance}/recording")


def looks_first(session: str) -> dict[str, Any]:
    """A script in which the question is answered by what a tool has found."""
    reply = [{"call": "exec", "arguments": {"command": MARK}}, {"template": "{{ result }}."}]
    return {"replies": [{"match": {"session": session, "text": QUESTION}, "reply": reply}]}


def ask(api: Api, instance: str, session: str, **more: Any) -> dict[str, Any]:
    """The answer to the question."""
    answer = api.message(instance, QUESTION, session=session, **more)
    assert answer.status_code == 200, answer.text
    response: dict[str, Any] = answer.json()
    return response


def test_a_session_is_set_back_and_its_message_replayed_up_to_a_call(
    api: Api, instance: str, session: str
) -> None:
    api.say(instance, COLOUR, session=session)
    first = ask(api, instance, session)
    assert text_of(first) == "3 parcels."
    (turn,) = local(api, "GET", f"runs/{first['id']}").json()["turns"]
    path = f"instances/{instance}/sessions/{session}"
    before = local(api, "GET", f"{path}/transcript").json()["turns"]
    position = next(each["position"] for each in before if each["text"] == QUESTION)
    local(api, "POST", f"{path}/rewind", json={"position": position})
    left = local(api, "GET", f"{path}/transcript").json()["turns"]
    assert QUESTION not in [each["text"] for each in left]
    call = {name: turn["calls"][0][name] for name in ("asked", "answered")}
    body = {"entries": {"1": call}, "in_order": True, "then_live": True}
    local(api, "PUT", f"instances/{instance}/recording", json=body)
    # In another provider's format, and the rule of the script is there for the second call alone.
    rule = {"match": {"session": session, "tool": "exec"}, "reply": "Live."}
    local(api, "PUT", f"instances/{instance}/replies", json={"replies": [rule]})
    again = ask(api, instance, session, model=MODELS["openai"])
    assert text_of(again) == "Live."
    (repeated,) = local(api, "GET", f"runs/{again['id']}").json()["turns"]
    prompts = [
        [turn["calls"][number]["asked"]["turns"] for number in (0, 1)] for turn in (turn, repeated)
    ]
    assert prompts[0] == prompts[1]
    sources = [each["source"] for each in repeated["calls"]]
    assert sources == ["recording", "script: replies[0]"]


@pytest.mark.nightly
def test_a_turn_is_run_again_on_forks_and_on_a_new_agent(
    api: Api, server: ServerProcess, instance: str, session: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    env = {"CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key}
    looked = "workspace/looked.txt"

    def command(*arguments: str) -> str:
        assert run(arguments, env) == 0, capsys.readouterr()
        return capsys.readouterr().out

    def times_looked(agent: str) -> int:
        return command("files", "cat", agent, looked).count("looked")

    api.say(instance, COLOUR, session=session)
    snapshot = local(api, "POST", f"instances/{instance}/snapshots", json={}).json()["id"]
    first = ask(api, instance, session)
    made: list[str] = []
    # A fork has no script of its own.
    local(api, "PUT", "replies", json=looks_first(session))
    try:
        # From a snapshot, the file is as it was before the message, and the tool runs once more.
        exact = json.loads(command("rerun", first["id"], "--from", "2", "--json"))
        made.append(exact["instance"]["id"])
        assert exact["diff"]["is_same"], exact
        now = times_looked(instance)
        assert times_looked(made[0]) == now
        local(api, "DELETE", f"snapshots/{snapshot}")
        # Without one, only the conversation is set back.
        later = json.loads(command("rerun", first["id"], "--from", "2", "--json"))
        made.append(later["instance"]["id"])
        assert later["diff"]["is_same"], later
        assert times_looked(made[1]) == now + 1
        file = tmp_path / "run.json"
        command("calls", "export", first["id"], str(file))
        new = json.loads(command("calls", "import", str(file), "--json"))
        made.append(new["instance"]["id"])
        different = [each for each in new["diff"]["steps"] if each["status"] != "same"]
        # Another agent has other instructions, as far as they name it.
        assert {each["a"]["kind"] for each in different} <= {"system prompt"}, different
        assert times_looked(made[2]) == 1
    finally:
        local(api, "DELETE", "replies")
        for each in made:
            api.delete(f"instances/{each}")
