"""Ends what killed test runs have left: agents of organizations whose key nobody else has, and
servers in containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.client import Client
from chowder_local.core import leases
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UNAUTHORIZED = 401


def organization_facts(
    base_url: str, key: str, name: str, *, is_other_server: bool = False
) -> dict[str, str]:
    """What a lease of an organization's agents has; elsewhere is a server that may have another
    data directory than that in which the lease is.
    """
    kind = "elsewhere" if is_other_server else "organization"
    return {"kind": kind, "base_url": base_url, "key": key, "name": name}


def container_facts(name: str) -> dict[str, str]:
    """What a lease of a server in a container has; `store_id` is added once it is known."""
    return {"kind": "container", "name": name}


def end_abandoned(
    folder: Path, env: Mapping[str, str], base_url: str | None = None
) -> Iterator[tuple[str, bool]]:
    """Ends what the leases in a folder are for, and tells the name of each, and whether it is gone.

    `base_url` is where the server of the folder's data directory is now, if it runs: it may have
    moved. What cannot be ended, because server or engine is not there, is kept.
    """
    for lease in leases.abandoned(folder):
        facts = lease.facts
        try:
            if facts["kind"] == "container":
                is_gone = _remove_container(facts, env)
            else:
                is_gone = _reset(facts, base_url)
        except ChowderError:
            is_gone = False
        if is_gone:
            lease.end()
        yield facts["name"], is_gone


def _reset(facts: Mapping[str, str], base_url: str | None) -> bool:
    own = facts["base_url"]
    if facts["kind"] == "elsewhere":
        base_url = own
    for url in dict.fromkeys(filter(None, (own, base_url))):
        try:
            with Client(url, facts["key"]) as client:
                client.reset()
        except ApiRefused as refused:
            if refused.status != UNAUTHORIZED:
                raise
            if url == base_url:
                # It has begun anew since, and its agents went then.
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
    # Somebody else may have removed the server alone.
    if store_id := facts.get("store_id"):
        remove_store(store_id, env)
    return True
