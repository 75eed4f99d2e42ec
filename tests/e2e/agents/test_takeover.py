"""An agent that takes over its own gateway: how it cannot, and what its server does if it has."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import CLAUDE
from tests.e2e.containers import CONFIG_FILE, container_of, inside
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    import httpx

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

PLUGIN = Path(__file__).with_name("taken_over.mjs")
FILES = {
    "openclaw.plugin.json": json.dumps(
        {
            "id": "taken",
            "activation": {"onStartup": True},
            "configSchema": {"type": "object", "properties": {}},
        }
    ),
    "package.json": json.dumps({"name": "taken", "openclaw": {"extensions": ["./index.mjs"]}}),
    "index.mjs": PLUGIN.read_text("utf-8"),
}
ENABLE = f"""python3 -c '
import json
config = json.load(open("{CONFIG_FILE}"))
config["plugins"]["entries"]["taken"] = {{"enabled": True}}
json.dump(config, open("{CONFIG_FILE}", "w"))
'"""
# To all of the agent's processes but the first one and the shell itself.
DEBUG = "cd /proc; for pid in [0-9]*; do [ $pid = 1 ] || [ $pid = $$ ] || kill -USR1 $pid; done"
LISTENERS = "cat /proc/net/tcp /proc/net/tcp6"
DEBUGGER_PORT = f":{9229:04X} "
DEADLINE_S = 100.0
LOG_BYTES = 100_000


def test_no_process_of_a_gateway_can_be_debugged(
    api: Api, engine: docker.DockerClient, patient: str
) -> None:
    container = container_of(engine, api, patient)
    inside(container, DEBUG)
    # An answer shows that the signals have been handled.
    api.say(patient, "Are you well?")
    assert DEBUGGER_PORT not in inside(container, LISTENERS)[1]
    assert "Debugger" not in container.logs().decode()


@pytest.fixture
def taken(api: Api, engine: docker.DockerClient, patient: str) -> Iterator[str]:
    """An agent whose gateway has loaded a plugin of the agent's, as soon as it was configured.

    The patient is there first: two boots at once would take longer.
    """
    instance_id = api.created("taken")
    api.until(instance_id, "running")
    for name, content in FILES.items():
        file = {"path": f"extensions/taken/{name}", "content": content}
        written = api.put(f"instances/{instance_id}/files/content", json=file)
        assert written.status_code == 204, written.text
    container = container_of(engine, api, instance_id)
    assert inside(container, f"{ENABLE} && echo nonsense > /data/mode") == (0, "")
    eventually(lambda: "other than JSON" in api.message(instance_id, "Hi").text, "it is taken over")
    yield instance_id
    assert api.delete(f"instances/{instance_id}").status_code == 204


@pytest.mark.nightly
def test_a_gateway_that_was_taken_over_harms_its_own_agent_only(
    api: Api, server: ServerProcess, engine: docker.DockerClient, taken: str, patient: str
) -> None:
    container = container_of(engine, api, taken)
    log_bytes = len(server.log())

    def ask(*, stream: bool) -> httpx.Response:
        body = {"model": CLAUDE, "input": "Hi", "stream": stream}
        return api.post(f"instances/{taken}/responses", json=body, timeout=DEADLINE_S)

    calls = [
        lambda: ask(stream=False),
        lambda: api.get(f"instances/{taken}/channels", timeout=DEADLINE_S),
        lambda: ask(stream=True),
    ]
    for mode in ("nonsense", "bomb", "headers", "redirect", "error", "slow"):
        if mode == "slow":
            # A stream may take as long as its client waits.
            calls.pop()
        assert inside(container, f"echo {mode} > /data/mode") == (0, "")
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(call) for call in calls]
            # The neighbour is answered meanwhile.
            api.say(patient, "Are you well?", session="neighbour")
            for each in asked:
                answer = each.result()
                assert answer.status_code == 502, (mode, answer.text[:1000])
                assert len(answer.json()["detail"]["error"]) > len("HTTP 200"), mode
    assert len(server.log()) - log_bytes < LOG_BYTES
