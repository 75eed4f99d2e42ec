"""What can be reached from within a container, found out by a program in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import RELAY_HOSTNAME
from tests.e2e.containers import config_of, inside

if TYPE_CHECKING:
    from docker.models.containers import Container

# Each try has two seconds; what cannot be sent is refused at once, what is dropped takes them all.
PROBE = r"""
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
asked = json.loads(sys.argv[1])

def named(name):
    try:
        return [name, bool(socket.getaddrinfo(name, 80))]
    except OSError:
        return [name, False]

def connected(host, port, device=b""):
    with socket.socket() as tried:
        tried.settimeout(2)
        if device:
            tried.setsockopt(socket.SOL_SOCKET, 25, device)
        try:
            tried.connect((host, port))
        except OSError:
            return False
    return True

def reached(where):
    host, port = where
    return [host, port, connected(host, port), connected(host, port, b"eth0")]

def sent(where):
    host, port = where
    done = []
    for device in (b"", b"eth0"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                if device:
                    tried.setsockopt(socket.SOL_SOCKET, 25, device)
                tried.sendto(b"out", (host, port))
                done.append(True)
            except OSError:
                done.append(False)
    return [host, port, *done]

with ThreadPoolExecutor(32) as pool:
    print(json.dumps({
        "names": list(pool.map(named, asked["names"])),
        "tcp": list(pool.map(reached, asked["tcp"])),
        "udp": list(pool.map(sent, asked["udp"])),
    }))
"""


def probed(container: Container, **asked: Any) -> dict[str, list[list[Any]]]:
    """What a program in the sandbox, as the agent runs them, finds that it can reach."""
    whole = {"names": [], "tcp": [], "udp": []} | asked
    code, output = container.exec_run(["python3", "-c", PROBE, json.dumps(whole)])
    assert code == 0, output
    assert isinstance(output, bytes)
    found: dict[str, list[list[Any]]] = json.loads(output)
    return found


def relay_of(container: Container) -> tuple[str, int]:
    """The address of the relay's host as the sandbox knows it, and the relay's port."""
    _, address = inside(container, f"getent hosts {RELAY_HOSTNAME} | cut -d' ' -f1")
    provider = config_of(container)["models"]["providers"]["chowder-openai"]
    return address.strip(), int(provider["baseUrl"].split(":")[2].split("/")[0])
