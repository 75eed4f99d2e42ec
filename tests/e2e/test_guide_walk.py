"""The hosted service's guide: its commands word for word, but for the base URL."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.api import BOOT_TIMEOUT_S
from tests.e2e.containers import names_of_sandboxes
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

SIGN_UP = """curl https://api.chowder.dev/v1/organization/signup \\
-H "Content-Type: application/json" \\
-d '{"name": "my-org"}'"""
SET_MODEL_KEYS = """curl -X PATCH https://api.chowder.dev/v1/organization \\
-H "Authorization: Bearer $CHOWDER_KEY" \\
-H "Content-Type: application/json" \\
-d '{"model_api_keys": {"anthropic": "offline", "openai": "offline"}}'"""
CREATE = """curl -X POST https://api.chowder.dev/v1/instances \\
-H "Authorization: Bearer $CHOWDER_KEY" \\
-H "Content-Type: application/json" \\
-d '{"name": "my-first-agent", "model_provider": "anthropic"}'"""
LIST = """curl https://api.chowder.dev/v1/instances \\
-H "Authorization: Bearer $CHOWDER_KEY\""""
SHOW = """curl https://api.chowder.dev/v1/instances/$INSTANCE_ID \\
-H "Authorization: Bearer $CHOWDER_KEY\""""
STATUS = """curl https://api.chowder.dev/v1/instances/$INSTANCE_ID/status \\
-H "Authorization: Bearer $CHOWDER_KEY\""""
SAY = """curl -X POST https://api.chowder.dev/v1/instances/$INSTANCE_ID%(session)s/responses \\
-H "Authorization: Bearer $CHOWDER_KEY" \\
-H "Content-Type: application/json" \\
-d '{
"model": "%(model)s",
"input": "%(input)s"
}'"""
STOP = """curl -X POST https://api.chowder.dev/v1/instances/$INSTANCE_ID/stop \\
-H "Authorization: Bearer $CHOWDER_KEY\""""
START = """curl -X POST https://api.chowder.dev/v1/instances/$INSTANCE_ID/start \\
-H "Authorization: Bearer $CHOWDER_KEY\""""
DELETE = """curl -X DELETE https://api.chowder.dev/v1/instances/$INSTANCE_ID \\
-H "Authorization: Bearer $CHOWDER_KEY\""""

CLAUDE = "claude-sonnet-4-20250514"
ALPHA = "/session/project-alpha"
HELLO = "Hey! Who are you and what can you do?"
REMEMBER = "This session is for project alpha. We are building a CLI tool in Rust. Remember that."
WHICH = "What project are we working on?"


class Shell:
    """Runs the guide's commands with its variables set."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._variables = {"PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}

    def export(self, name: str, value: str) -> None:
        self._variables[name] = value

    def run(self, command: str) -> tuple[int, Any]:
        """The status and the body that curl printed."""
        command = command.replace("https://api.chowder.dev/v1", self._base_url)
        command = command.replace("curl", "curl -sS -w '\\n%{http_code}'", 1)
        done = subprocess.run(
            ["/bin/bash", "-euc", command],
            env=self._variables,
            check=True,
            capture_output=True,
            text=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body) if body else None

    def say(self, text: str, *, model: str = CLAUDE, session: str = "") -> str:
        """What the agent says; the answer is as the guide shows it."""
        status, answer = self.run(SAY % {"session": session, "model": model, "input": text})
        assert status == 200, answer
        assert answer["id"].startswith("resp_")
        assert (answer["status"], answer["model"]) == ("completed", model)
        (message,) = answer["output"]
        assert (message["type"], message["role"]) == ("message", "assistant")
        (part,) = message["content"]
        assert part["type"] == "output_text"
        said: str = part["text"]
        return said


# A boot and a first turn, by which OpenClaw loads most of itself.
def test_the_guides_walk_by_curl(own_server: ServerProcess, engine: docker.DockerClient) -> None:
    shell = Shell(own_server.base_url)
    status, signed_up = shell.run(SIGN_UP)
    assert status == 201
    shell.export("CHOWDER_KEY", signed_up["api_key"])
    status, organization = shell.run(SET_MODEL_KEYS)
    assert (status, organization["model_providers"]) == (200, ["anthropic", "openai"])

    status, created = shell.run(CREATE)
    assert status == 201
    instance_id = created["id"]
    assert created == {
        "id": instance_id,
        "organization_id": organization["id"],
        "name": "my-first-agent",
        "status": "provisioning",
        "model_provider": "anthropic",
        "sandbox_provider": "sandbox",
        "sandbox_id": None,
        "openclaw_version": "v1",
        "openclaw_config": None,
        "gateway_url": None,
        "region": None,
        "error_message": None,
        "created_at": created["created_at"],
        "updated_at": created["created_at"],
    }
    shell.export("INSTANCE_ID", instance_id)
    # Neither running nor stopped yet: both moves are refused.
    assert shell.run(STOP)[0] == shell.run(START)[0] == 409

    def running() -> Any:
        status, polled = shell.run(STATUS)
        assert status == 200
        assert polled["status"] in {"provisioning", "running"}, shell.run(SHOW)
        return polled if polled["status"] == "running" else None

    polled = eventually(running, "the agent is running", timeout_s=BOOT_TIMEOUT_S)
    assert set(polled) == {"id", "status", "gateway_url"}
    sandbox_id = shell.run(SHOW)[1]["sandbox_id"]
    gateway = urlsplit(polled["gateway_url"])
    assert engine.containers.get(sandbox_id).status == "running"

    assert HELLO in shell.say(HELLO)
    assert HELLO in shell.say("What did I just ask you?")
    assert "CLI tool in Rust" in shell.say(REMEMBER, session=ALPHA)
    answer = shell.say(WHICH, model="gpt-4o")
    assert "What did I just ask you?" in answer
    assert "Turn 3." in answer
    answer = shell.say(WHICH, model="gpt-4o", session=ALPHA)
    assert "CLI tool in Rust" in answer
    assert "Turn 2." in answer

    status, stopped = shell.run(STOP)
    assert (status, stopped["status"]) == (200, "stopped")
    assert engine.containers.get(sandbox_id).status == "paused"
    assert shell.run(STOP) == (
        409,
        {"detail": "Instance is stopped, but must be running for this."},
    )
    status, started = shell.run(START)
    assert (status, started["status"]) == (200, "running")
    assert shell.run(START) == (
        409,
        {"detail": "Instance is running, but must be stopped for this."},
    )
    assert WHICH in shell.say("Still there?")

    assert shell.run(DELETE) == (204, None)
    assert shell.run(LIST) == (200, [])
    status, gone = shell.run(SHOW)
    assert (status, gone["status"], gone["gateway_url"]) == (200, "terminated", None)
    assert sandbox_id not in names_of_sandboxes(engine, own_server.store_id)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((gateway.hostname, gateway.port), timeout=5)
