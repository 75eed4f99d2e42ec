"""OpenClaw's configuration, given at the creation and changed on a live agent."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.config.agent_config import merged, to_merge_patch
from tests.e2e.agents.conftest import OVERRIDES
from tests.e2e.containers import config_of, container_of, inside

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api

pytestmark = pytest.mark.docker

OF_OTHERS = ("models", "channels")
"""What settings of other tests' begin with."""


def test_overrides_of_the_creation_are_in_force(
    api: Api, engine: docker.DockerClient, instance: str
) -> None:
    assert api.get(f"instances/{instance}").json()["openclaw_config"] == OVERRIDES
    defaults = config_of(container_of(engine, api, instance))["agents"]["defaults"]
    assert defaults["thinkingDefault"] == "off"


def thinking(engine: docker.DockerClient, api: Api, instance_id: str) -> Any:
    defaults = config_of(container_of(engine, api, instance_id))["agents"]["defaults"]
    return defaults.get("thinkingDefault")


def changed(api: Api, instance_id: str, level: str) -> dict[str, Any]:
    body = {"openclaw_config": {"agents.defaults.thinkingDefault": level}}
    answer = api.patch(f"instances/{instance_id}", json=body)
    assert answer.status_code == 200, answer.text
    instance: dict[str, Any] = answer.json()
    assert instance["openclaw_config"]["agents.defaults.thinkingDefault"] == level
    return instance


def test_what_is_told_after_dotted_and_nested_changes_is_live(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    for overrides in (
        {"agents.defaults.thinkingDefault": "low", "logging.level": "debug"},
        {"agents": {"defaults": {"thinkingDefault": "high"}}, "logging": {"consoleLevel": "info"}},
        {"logging.level": None, "agents.defaults.heartbeat": None},
    ):
        answer = api.patch(f"instances/{patient}", json={"openclaw_config": overrides})
        assert answer.status_code == 200, answer.text
    told = api.get(f"instances/{patient}").json()["openclaw_config"]
    # Other tests have settings of their own, some of which only the dashboard may make.
    told = {path: value for path, value in told.items() if not path.startswith(OF_OTHERS)}
    assert told["agents"] == {"defaults": {"thinkingDefault": "high"}}
    assert (told["logging"], told["agents.defaults.heartbeat"]) == ({"consoleLevel": "info"}, None)
    assert {"agents.defaults.thinkingDefault", "logging.level"}.isdisjoint(told)
    live = config_of(container_of(engine, api, patient))
    # Whatever is laid over it once more changes nothing.
    assert merged(live, to_merge_patch(told)) == live
    # The other tests' stand-ins are to be asked by nobody but them.
    quiet = {"openclaw_config": {"agents.defaults.heartbeat": {"every": "0m"}}}
    assert api.patch(f"instances/{patient}", json=quiet).status_code == 200


def test_a_running_agent_is_changed_live_and_a_stopped_one_stays_stopped(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    before = container_of(engine, api, patient).attrs["State"]["StartedAt"]
    assert changed(api, patient, "low")["status"] == "running"
    assert thinking(engine, api, patient) == "low"
    api.stop(patient)
    assert changed(api, patient, "high")["status"] == "stopped"
    assert container_of(engine, api, patient).status == "paused"
    api.start(patient)
    assert thinking(engine, api, patient) == "high"
    assert api.say(patient, "Do you think?")
    assert container_of(engine, api, patient).attrs["State"]["StartedAt"] == before


def test_a_change_that_restarts_the_gateway_returns_when_it_takes_messages(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    now = config_of(container_of(engine, api, patient))["memory"]["search"].get("enabled", True)
    body = {"openclaw_config": {"memory.search.enabled": not now}}
    answer = api.patch(f"instances/{patient}", json=body)
    assert answer.status_code == 200, answer.text
    # No restart is still to come: the gateway can be stopped in peace, and wakes as it was.
    # Others may have said things in its main conversation that are many lines in its log.
    assert api.say(patient, "Are you back?", session=uuid.uuid4().hex)
    before = container_of(engine, api, patient).attrs["State"]["StartedAt"]
    api.stop(patient)
    api.start(patient)
    assert container_of(engine, api, patient).attrs["State"]["StartedAt"] == before
    said = container_of(engine, api, patient).logs().decode()
    assert said.rindex("Are you back?") > said.rindex("restart mode: in-process restart")


def test_what_openclaw_refuses_changes_nothing(
    api: Api, engine: docker.DockerClient, instance: str
) -> None:
    before = config_of(container_of(engine, api, instance))
    for overrides, words in (
        ({"agents.defaults.nonsense": 1}, 'Unrecognized key: "nonsense"'),
        ({"agents.defaults.timeoutSeconds": "soon"}, "expected number"),
        ({"gateway.port": 1}, "gateway.port"),
        ({"plugins.allow": ["telegram"]}, "plugins.allow"),
        ({"env.vars": {"OPENCLAW_STATE_DIR": "/tmp"}}, "env.vars.OPENCLAW_STATE_DIR"),
        # OpenClaw writes this one before it finds out that it cannot live with it.
        ({"hooks": {"enabled": True, "token": None}}, "hooks.enabled requires hooks.token"),
    ):
        body = {"name": "renamed", "openclaw_config": overrides}
        answer = api.patch(f"instances/{instance}", json=body)
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
    shown = api.get(f"instances/{instance}").json()
    assert (shown["name"], shown["openclaw_config"]) == ("shared", OVERRIDES)
    assert config_of(container_of(engine, api, instance)) == before
    assert api.say(instance, "Still there?", session="config")


def test_names_with_dots_are_set_in_nested_objects_and_null_deletes(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    def models() -> Any:
        defaults = config_of(container_of(engine, api, patient))["agents"]["defaults"]
        return defaults.get("models")

    for settings in ({"alias": "four"}, None):
        model = {"chowder-openai/gpt-4.1": settings}
        overrides: dict[str, Any] = {"agents": {"defaults": {"models": model}}}
        answer = api.patch(f"instances/{patient}", json={"openclaw_config": overrides})
        assert answer.status_code == 200, answer.text
        assert (models() or {}) == ({} if settings is None else model)
    # Arrays are replaced as a whole, and go with what they are in.
    for patterns in (["a", "b"], ["c"]):
        overrides = {"logging.redactPatterns": patterns}
        answer = api.patch(f"instances/{patient}", json={"openclaw_config": overrides})
        assert answer.status_code == 200, answer.text
        logging = config_of(container_of(engine, api, patient))["logging"]
        assert logging["redactPatterns"] == patterns
    removed = {"openclaw_config": {"agents.defaults.models": None, "logging": None}}
    assert api.patch(f"instances/{patient}", json=removed).status_code == 200
    assert models() is None


@pytest.mark.nightly
def test_settings_may_become_much_shorter(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    def leavings() -> list[str]:
        entries = api.get(f"instances/{patient}/files", params={"path": "."}).json()["entries"]
        return [each["name"] for each in entries if ".rejected." in each["name"]]

    for value in ("x" * 16_000, "short"):
        # A change of the environment restarts the gateway, one of a skill does not.
        overrides = {"openclaw_config": {"env.vars.SHRINKING": value}}
        answer = api.patch(f"instances/{patient}", json=overrides)
        assert answer.status_code == 200, answer.text
        skill = api.patch(f"instances/{patient}/skills/weather", json={"env": {"A_KEY": value}})
        assert skill.status_code == 204, skill.text
    live = config_of(container_of(engine, api, patient))
    assert live["env"]["vars"]["SHRINKING"] == "short"
    assert live["skills"]["entries"]["weather"]["env"] == {"A_KEY": "short"}
    assert "remote" not in live["gateway"]
    told = api.get(f"instances/{patient}").json()["openclaw_config"]
    assert told["env.vars.SHRINKING"] == "short"
    assert leavings() == []
    long = {"openclaw_config": {"env.vars.SHRINKING": "x" * 16_000}}
    assert api.patch(f"instances/{patient}", json=long).status_code == 200
    api.stop(patient)
    gone = {"openclaw_config": {"env.vars.SHRINKING": None}}
    answer = api.patch(f"instances/{patient}", json=gone)
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
    api.start(patient)
    live = config_of(container_of(engine, api, patient))
    assert "SHRINKING" not in live.get("env", {}).get("vars", {})
    assert "remote" not in live["gateway"]


COUNTED = (
    "import sqlite3; "
    "database = sqlite3.connect('/data/.openclaw/agents/main/agent/openclaw-agent.sqlite'); "
    "print(*database.execute('SELECT count(*) FROM trajectory_runtime_events').fetchone())"
)


def test_a_turn_writes_no_trajectory_by_default(
    api: Api, engine: docker.DockerClient, instance: str
) -> None:
    api.say(instance, "Hello.", session=uuid.uuid4().hex)
    said = inside(container_of(engine, api, instance), f'python3 -c "{COUNTED}"')
    assert said == (0, "0\n")
