"""Removes what killed test runs left: organizations' agents, and servers in containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.client import Client
from chowder_local.core import data_dir
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UNAUTHORIZED = 401


def organization_facts(
    base_url: str, key: str, name: str, *, is_other_server: bool = False
) -> dict[str, str]:
    """The content of an organization's lease; another server's data directory is unknown."""
    kind = "elsewhere" if is_other_server else "organization"
    return {"kind": kind, "base_url": base_url, "key": key, "name": name}


def container_facts(name: str) -> dict[str, str]:
    """The content of the lease of a server in a container; `store_id` is added later."""
    return {"kind": "container", "name": name}


def end_abandoned(
    folder: Path, env: Mapping[str, str], base_url: str | None = None
) -> Iterator[tuple[str, bool]]:
    """Removes the agents and servers of the abandoned leases in a folder.

    Yields the name of each lease and whether its agents or server are removed; if the server or the
    engine does not answer, the lease is kept. `base_url` is the current address of the server of
    the folder's data directory, which may have changed since the lease was taken.
    """
    for lease in data_dir.abandoned_leases(folder):
        facts = lease.facts
        try:
            if facts["kind"] == "container":
                is_removed = _remove_container(facts, env)
            else:
                is_removed = _reset(facts, base_url)
        except ChowderError:
            is_removed = False
        if is_removed:
            lease.end()
        yield facts["name"], is_removed


def _reset(facts: Mapping[str, str], base_url: str | None) -> bool:
    leased_url = facts["base_url"]
    if facts["kind"] == "elsewhere":
        base_url = leased_url
    for url in dict.fromkeys(filter(None, (leased_url, base_url))):
        try:
            with Client(url, facts["key"]) as client:
                client.reset()
        except ApiRefused as refused:
            if refused.status != UNAUTHORIZED:
                raise
            if url == base_url:
                # The server was reset, which removed the agents.
                return True
        except ServerNotRunning:
            continue
        else:
            return True
    return False


def _remove_container(facts: Mapping[str, str], env: Mapping[str, str]) -> bool:
    from chowder_local.engine.server_container import remove_server
    from chowder_local.engine.store_resources import remove_store

    remove_server(facts["name"], env)
    # The server's container may be gone while its agents are not.
    if store_id := facts.get("store_id"):
        remove_store(store_id, env)
    return True
