"""Sandboxes under a runtime that a setting names, on a real engine."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import docker
import pytest

from chowder_local.core.domain import Egress, SandboxId, SandboxSpec
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine import sandbox_start
from chowder_local.engine.connection import find_engine
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.specs import Limits, SandboxDefaults
from chowder_local.engine.store_resources import remove_store
from tests.e2e.quick_image import quick_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
# The name by which every engine has a second runtime.
RUNTIME = "io.containerd.runc.v2"
SANDBOX = SandboxId(f"chowder-{secrets.token_hex(6)}")


@pytest.fixture(scope="module")
def defaults() -> Iterator[SandboxDefaults]:
    with closing(docker.from_env()) as client, quick_image(client) as tag:
        yield SandboxDefaults(tag, Limits(512, 1.0, 32), runtime=RUNTIME)


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    address = find_engine(os.environ)
    async with DockerEngine.connect(address, STORE_ID, timeout_s=20, thread_count=2) as engine:
        yield engine
    remove_store(STORE_ID, os.environ)


async def test_sandboxes_run_under_the_runtime_of_the_settings(
    engine: DockerEngine, defaults: SandboxDefaults
) -> None:
    await engine.prepare(defaults)
    await engine.boot(SandboxSpec(SANDBOX, {}))
    with closing(docker.from_env()) as client:
        attributes = client.containers.get(SANDBOX).attrs
    assert attributes["HostConfig"]["Runtime"] == RUNTIME
    await engine.remove(SANDBOX)


async def test_a_runtime_that_the_engine_lacks_is_refused_before_any_agent_boots(
    engine: DockerEngine, defaults: SandboxDefaults
) -> None:
    with pytest.raises(EngineUnavailable, match=r"no-such.*unset CHOWDER_CONTAINER_RUNTIME"):
        await engine.prepare(replace(defaults, runtime="no-such"))


async def test_under_a_runtime_without_firewall_rules_egress_cannot_be_off(
    engine: DockerEngine, defaults: SandboxDefaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gVisor refuses this socket; the runtimes that every engine has do not.
    monkeypatch.setattr(sandbox_start, "_OPEN_NETFILTER", "raise SystemExit(1)")
    networks = await engine.prepare(defaults)
    assert RUNTIME in str(networks.problem)
    with pytest.raises(EgressUnavailable):
        await engine.boot(SandboxSpec(SANDBOX, {}, egress=Egress.OFF))
