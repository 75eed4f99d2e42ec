"""The pytest plugin and the testcontainers class, for tests against agents.

The names of `__all__` are for everybody: the types of the fixtures, for annotations, and a server
in a container, which needs the extra `testcontainers`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chowder_local.testing.containers import ChowderLocalContainer
    from chowder_local.testing.live import LiveInstance, LiveOrganization
    from chowder_local.testing.replies import Replies
    from chowder_local.testing.servers import Server

__all__ = ["ChowderLocalContainer", "LiveInstance", "LiveOrganization", "Replies", "Server"]

_MODULES = {
    "ChowderLocalContainer": "containers",
    "LiveInstance": "live",
    "LiveOrganization": "live",
    "Replies": "replies",
    "Server": "servers",
}


def __getattr__(name: str) -> Any:
    # Every run of pytest imports this package if it is installed, so it imports late.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
