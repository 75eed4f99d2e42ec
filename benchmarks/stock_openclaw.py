"""Stock OpenClaw in a plain container: its image, and its start."""

from __future__ import annotations

import io
import json
import secrets
import socket
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import containers
from benchmarks.images import build, has_image
from benchmarks.routes import Route
from benchmarks.servers import MODEL
from benchmarks.waiting import NotMeasured, ms_since, until
from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import read_versions, recipe_dir
from chowder_local.engine.images import build_arguments
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from benchmarks.bench import Bench

PORT = 18789
STATE = "home/node/.openclaw"
UID = 1000
MEMORY = "2g"
"""The limits of sandboxes and fleet's cells, because OpenClaw adapts to the memory."""
READY_TIMEOUT_S = 240.0
TURN_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Stock:
    """The image, and the model's URL for its agents."""

    bench: Bench
    tag: str
    model_url: str
    model_address: str


@dataclass(frozen=True)
class Agent:
    """A container with a ready stock OpenClaw."""

    container: Container
    url: str
    token: str
    ready_ms: float
    boot_cpu_s: float

    def say(self, text: str) -> float:
        """Sends a message; the milliseconds until its answer. Raises NotMeasured if it fails."""
        began_s = time.perf_counter()
        answer = httpx.post(
            f"{self.url}/v1/responses",
            json={"model": "openclaw", "input": text},
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=TURN_TIMEOUT_S,
            trust_env=False,
        )
        if answer.status_code != httpx.codes.OK or "[offline]" not in answer.text:
            raise NotMeasured(f"stock OpenClaw: {answer.status_code} {answer.text[:300]}")
        return ms_since(began_s)

    def route(self, session: str) -> Route:
        """The route to a session of the agent."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "x-openclaw-session-key": session_key(session),
        }
        return Route(f"{self.url}/v1/responses", headers, "openclaw")


@contextmanager
def stock(bench: Bench) -> Iterator[Stock]:
    """Stock OpenClaw's image, with a stand-in model that its containers can reach."""
    tag = build_image(bench)
    bind, address = _model_place(bench)
    with bench.python("benchmarks.model_stand_in", bind) as port:
        yield Stock(bench, tag, f"http://model.internal:{port}/anthropic", address)


def build_image(bench: Bench) -> str:
    """The image's tag; builds a missing image. Raises NotMeasured if the build fails."""
    versions = read_versions(recipe_dir())
    tag = f"chowder-local/benchmark-stock:{versions['OPENCLAW_VERSION']}"
    if has_image(bench, tag):
        return tag
    bench.progress("building the image of stock OpenClaw (about a minute)")
    build(
        bench,
        "stock",
        tag,
        build_arguments(_base(bench, versions["NODE_VERSION"]), versions, bench.env),
    )
    return tag


def start(stock: Stock) -> Agent:
    """A new container, as by `docker run`, once it is ready. Raises NotMeasured if it fails."""
    bench, token = stock.bench, secrets.token_hex(16)
    began_s = time.perf_counter()
    container = bench.client.containers.create(
        stock.tag,
        labels={containers.LABEL: bench.run},
        # The type stub lacks None, with which the engine chooses a port.
        ports={f"{PORT}/tcp": ("127.0.0.1", None)},  # type: ignore[dict-item]
        extra_hosts={"model.internal": stock.model_address},
        mem_limit=MEMORY,
    )
    container.put_archive("/", _config_archive(stock.model_url, token))
    container.start()
    container.reload()
    published = (container.ports[f"{PORT}/tcp"] or [{}])[0]
    url = f"http://127.0.0.1:{published['HostPort']}"

    def is_ready() -> bool:
        return answers(f"{url}/startupz") or _ended(container)

    until(is_ready, "stock OpenClaw takes turns", READY_TIMEOUT_S)
    return Agent(container, url, token, ms_since(began_s), containers.cpu_s(container))


def answers(url: str) -> bool:
    """Whether a probe answers 200."""
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def config(model_url: str, token: str) -> dict[str, Any]:
    """The minimal configuration for `/v1/responses` with the stand-in model."""
    return {
        "gateway": {
            "mode": "local",
            "auth": {"mode": "token", "token": token},
            "http": {"endpoints": {"responses": {"enabled": True}}},
        },
        "agents": {"defaults": {"model": {"primary": f"bench/{MODEL}"}}},
        "models": {
            "providers": {
                "bench": {
                    "api": "anthropic-messages",
                    "baseUrl": model_url,
                    "apiKey": "none",
                    "models": [],
                }
            }
        },
    }


def _config_archive(model_url: str, token: str) -> bytes:
    content = json.dumps(config(model_url, token)).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(f"{STATE}/openclaw.json")
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o600, UID, UID
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _ended(container: Container) -> bool:
    container.reload()
    if container.status == "running":
        return False
    raise NotMeasured(f"stock OpenClaw ended: {container.logs(tail=5).decode(errors='replace')}")


def _base(bench: Bench, node_version: str) -> str:
    """The base image of the sandbox image."""
    configured = Settings.read(bench.env).base_image
    made = f"chowder-local/base:trixie-slim-node{node_version}"
    return made if not has_image(bench, configured) and has_image(bench, made) else configured


def _model_place(bench: Bench) -> tuple[str, str]:
    """The stand-in's address, and the address by which a plain container reaches it."""
    attributes = bench.client.networks.get("bridge").attrs or {}
    for part in attributes["IPAM"]["Config"]:
        if (gateway := part.get("Gateway")) and _is_ours(gateway):
            return gateway, gateway
    # The engine is in a virtual machine, which forwards its host name to this loopback.
    return "127.0.0.1", "host-gateway"


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
