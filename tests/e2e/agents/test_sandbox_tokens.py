"""What is not to be found in a real agent's sandbox, and whom its gateway answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.agents.conftest import MODEL_KEYS
from tests.e2e.containers import CONFIG_FILE, config_of, container_of, inside

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


def test_no_key_of_the_organization_is_in_the_sandbox(
    keyed: Api, engine: docker.DockerClient, instance: str
) -> None:
    for model in ("claude-sonnet-4-20250514", "gpt-4o", "gemini-2.0-flash"):
        keyed.say(instance, "Use your key.", model=model)
    container = container_of(engine, keyed, instance)
    relay_token = config_of(container)["models"]["providers"]["chowder-anthropic"]["apiKey"]
    keys = [*MODEL_KEYS.values(), keyed.headers["authorization"].removeprefix("Bearer ")]

    def places_of(secret: str) -> list[str]:
        # Two brackets keep the search from finding itself in the list of processes.
        pattern = f"[{secret[0]}]{secret[1:]}"
        where = "/data /tmp /etc /opt/openclaw/*.json /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
        _, found = inside(container, f"grep -rlaE -e '{pattern}' {where} 2>/dev/null")
        return found.split()

    # The search finds what is there, or its silence would prove nothing.
    assert CONFIG_FILE in places_of(relay_token)
    for key in keys:
        assert places_of(key) == []
        assert key not in json.dumps(container.attrs)
        assert key not in container.logs().decode()


def test_the_gateway_answers_its_token_and_nobody_else(
    api: Api, server: ServerProcess, instance: str
) -> None:
    root = server.base_url.removesuffix("/v1")
    found = api.get(f"{root}/local/instances/{instance}/gateway").json()
    url, token = found["gateway_url"], found["token"]
    assert url == api.get(f"instances/{instance}").json()["gateway_url"]
    body: Any = {"model": "openclaw", "input": "Hello directly."}

    def ask(headers: dict[str, str]) -> httpx.Response:
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            session = {"x-openclaw-session-key": "agent:main:direct"}
            return client.post("/v1/responses", json=body, headers=session)

    answered = ask({"Authorization": f"Bearer {token}"})
    assert answered.status_code == 200
    assert "Hello directly." in answered.text
    assert ask({}).status_code == 401
    assert ask({"Authorization": f"Bearer {token[:-1]}"}).status_code == 401
    assert ask({"Authorization": f"Bearer {server.key}"}).status_code == 401
