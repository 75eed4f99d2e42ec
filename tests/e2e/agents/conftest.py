"""One server and a few real agents, which all tests of this folder have in common."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import OFFLINE_KEY
from chowder_local.features.messengers.service import STAND_INS
from chowder_local.openclaw.shortcuts import PROMPT_TEXTS
from tests.e2e.agents.local_channel import LocalChannel
from tests.e2e.api import Api
from tests.e2e.clawhub import ClawHub
from tests.e2e.copies import local
from tests.e2e.node import Programs
from tests.e2e.serving import RECONCILE_INTERVAL, ServerProcess, is_before
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from tests.e2e.stand_in import StandIn

OVERRIDES = {"agents.defaults.thinkingDefault": "off"}
"""What the shared agent is created with."""
MOMENT_S = 10.0
"""Until OpenClaw lists what is written into a workspace, on a busy machine."""
MODEL_KEYS = {
    "anthropic": "sk-ant-planted-5f1c0d",
    "openai": "sk-oai-planted-77ab42",
    "gemini": "AIza-planted-c09e13",
}


@pytest.fixture(scope="session")
def clawhub() -> Iterator[ClawHub]:
    """What the server's sandboxes take for ClawHub."""
    with ClawHub() as clawhub:
        yield clawhub


@pytest.fixture(scope="session")
def only_server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    stand_in: StandIn,
    clawhub: ClawHub,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """The server of the run; `server` is what tests ask for."""
    settings = stand_in.settings | {
        "CHOWDER_CLAWHUB_URL": clawhub.url,
    }
    constants = {RECONCILE_INTERVAL: 1, "instances.lifecycle.agents:DRAIN_TIMEOUT_S": 3}
    server = ServerProcess(tmp_path_factory.mktemp("e2e") / "data", settings, constants)
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def server(only_server: ServerProcess) -> ServerProcess:
    """The server, started again if a test before has ended it."""
    only_server.ensure_up()
    return only_server


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The default organization's client; its models are the offline ones."""
    with Api(server.base_url, server.key) as api:
        yield api


@pytest.fixture
def keyed(api: Api) -> Iterator[Api]:
    """The same client while the models are the stand-in's: its agents' keys are planted ones."""
    changed = api.patch("organization", json={"model_api_keys": MODEL_KEYS})
    assert changed.status_code == 200, changed.text
    yield api
    offline = dict.fromkeys(MODEL_KEYS, OFFLINE_KEY)
    assert api.patch("organization", json={"model_api_keys": offline}).status_code == 200


@pytest.fixture(scope="session")
def shared_id(only_server: ServerProcess) -> str:
    only_server.ensure_up()
    with Api(only_server.base_url, only_server.key) as api:
        return api.created("shared", openclaw_config=OVERRIDES)


@pytest.fixture
def instance(api: Api, shared_id: str) -> str:
    """An agent for tests that do not change its state; its main conversation is everybody's."""
    api.until(shared_id, "running")
    return shared_id


@pytest.fixture
def conversation(server: ServerProcess, instance: str) -> str:
    """The base URL that leads an SDK to a conversation of the test's own with that agent."""
    return f"{server.base_url}/instances/{instance}/session/{uuid.uuid4()}"


@pytest.fixture
def prompt_texts(api: Api) -> None:
    """Skips a test of what the server reads in prompts, if the release words them differently."""
    off = local(api, "GET", "health").json()["shortcuts_off"]
    if reason := off.get(PROMPT_TEXTS.name):
        pytest.skip(f"without the shortcut {PROMPT_TEXTS.name!r}: {reason}")


@pytest.fixture(scope="session")
def patients() -> list[str]:
    """The id of the agent for tests which change an agent's state, once it is made."""
    return []


@pytest.fixture
def patient(api: Api, patients: list[str]) -> str:
    """A running agent that a test may stop, kill and wake as it likes, but not break."""
    if not patients:
        patients.append(api.created("patient"))
    (instance_id,) = patients
    if api.status(instance_id) == "stopped":
        started = api.post(f"instances/{instance_id}/start")
        assert started.status_code == 200, started.text
    api.until(instance_id, "running")
    return instance_id


@pytest.fixture(scope="module")
def channels_disconnected(only_server: ServerProcess, patients: list[str]) -> Iterator[None]:
    """That agent's channels may stay connected between tests of a module: connecting is slow."""
    yield
    only_server.ensure_up()
    with Api(only_server.base_url, only_server.key) as api:
        for patient in patients:
            for each in STAND_INS:
                LocalChannel(api, patient, each).disconnect()


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """What runs the programs of `clients/`."""
    with Programs(tmp_path_factory.mktemp("clients")) as programs:
        yield programs


@pytest.fixture
def write_skill(api: Api, patient: str) -> Callable[[str, str], None]:
    """Writes a skill of that name and text into the patient's workspace.

    OpenClaw sees it a moment later, as it watches the folder; before 2026.9.1 only if somebody has
    spoken with the agent.
    """

    def is_listed(name: str) -> bool:
        return any(each["name"] == name for each in api.get(f"instances/{patient}/skills").json())

    def write(name: str, text: str) -> None:
        if is_before("2026.9.1"):
            api.say(patient, "Hello.", session=uuid.uuid4().hex)
        file = {"path": f"workspace/skills/{name}/SKILL.md", "content": text}
        written = api.put(f"instances/{patient}/files/content", json=file)
        assert written.status_code == 204, written.text
        eventually(lambda: is_listed(name), "it is listed", MOMENT_S)

    return write
