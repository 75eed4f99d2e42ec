"""Fills a data directory with rows, like those of a server after years of use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import create_engine, select

from chowder_local.accounts.bootstrap import FIRST_TIER, META_NAME, NAME
from chowder_local.core.domain import InstanceStatus, ModelProvider, Permission, Tier
from chowder_local.core.secrets import SCOPED_PREFIX, SecretBox, digest
from chowder_local.store.schema import prepare
from chowder_local.store.tables import METADATA, encrypt_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NEIGHBOUR_SIZE = Tier.LOBSTER.instance_limit or 1
"""The number of living instances of each other organization."""


def fill(
    data_dir: Path,
    instances: int,
    sessions: int,
    *,
    own: int = 10,
    terminated: int = 0,
    keys: int = 0,
) -> None:
    """Adds living instances, `own` of them to the default organization, others to others; blocks.

    All are stopped, so that a server makes no call to the engine for them. The `sessions` are
    spread over living instances. The `terminated` instances and the scoped `keys`, each for one
    instance, are the default organization's. No server may be running on the directory.
    """
    path = data_dir / "chowder.db"
    prepare(path)
    config = encrypt_json(
        {"agents.defaults.thinkingDefault": "low"}, SecretBox.load(data_dir / "secret.key")
    )
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        organization_id = _default_organization(connection)
        neighbours = [_id("neighbour", n) for n in range(-(-instances // NEIGHBOUR_SIZE))]
        _add(connection, "organization", (_organization(each, each) for each in neighbours))
        owners = [
            organization_id if n < own else neighbours[n // NEIGHBOUR_SIZE]
            for n in range(instances)
        ]
        living = [_instance("living", n, owner, config) for n, owner in enumerate(owners)]
        _add(connection, "instance", living)
        ended = (_instance("terminated", n, organization_id, config) for n in range(terminated))
        _add(connection, "instance", ({**row, "status": _TERMINATED} for row in ended))
        _add(connection, "session", (_session(living[n % instances], n) for n in range(sessions)))
        _add(connection, "api_key", (_key(n, organization_id) for n in range(keys)))
        _add(
            connection,
            "key_grant",
            (_grant(living[n % min(own, instances)], n) for n in range(keys)),
        )
    engine.dispose()


def scoped_key(number: int) -> str:
    """The token of a scoped key; the n-th is for the n-th own instance, from 0."""
    return f"{SCOPED_PREFIX}{_id('key', number)}"


def instance_id(number: int) -> str:
    """The id of a living instance; those of the default organization come first."""
    return _id("living", number)


_STOPPED, _TERMINATED = InstanceStatus.STOPPED.value, InstanceStatus.TERMINATED.value


def _default_organization(connection: Connection) -> str:
    """The id of the default organization, which `chowder-local up` gives a key."""
    meta = METADATA.tables["meta"]
    organization_id = connection.scalar(select(meta.c.value).where(meta.c.name == META_NAME))
    if organization_id is not None:
        return str(organization_id)
    made = _id("organization", 0)
    _add(connection, "meta", iter([{"name": META_NAME, "value": made}]))
    _add(connection, "organization", iter([_organization(made, NAME)]))
    return made


def _add(connection: Connection, table: str, rows: Iterator[dict[str, Any]] | list[Any]) -> None:
    if added := list(rows):
        connection.execute(METADATA.tables[table].insert(), added)


def _id(kind: str, number: int) -> str:
    return str(uuid5(NAMESPACE_OID, f"{kind} {number}"))


def _organization(made_id: str, name: str) -> dict[str, Any]:
    return {
        "id": made_id,
        "name": name,
        "tier": FIRST_TIER.value,
        "created_at": EPOCH,
        "updated_at": EPOCH,
    }


def _instance(kind: str, number: int, organization_id: str, config: bytes) -> dict[str, Any]:
    made_id, made_at = _id(kind, number), EPOCH + timedelta(seconds=number)
    return {
        "id": made_id,
        "organization_id": organization_id,
        "name": f"agent {number}",
        "status": _STOPPED,
        "model_provider": ModelProvider.ANTHROPIC.value,
        "sandbox_id": f"chowder-{made_id[-12:]}",
        "sandbox_provider": "sandbox",
        "openclaw_version": "v1",
        "gateway_url": f"http://127.0.0.1:{32768 + number % 28000}",
        "first_ready_at": made_at,
        "created_at": made_at,
        "updated_at": made_at,
        "openclaw_config_ciphertext": config,
    }


def _session(instance: dict[str, Any], number: int) -> dict[str, Any]:
    name = f"customer {number}"
    used_at = EPOCH + timedelta(seconds=number)
    return {
        "instance_id": instance["id"],
        "session_key": f"agent:main:s-{name.encode().hex()}",
        "name": name,
        "created_at": used_at,
        "last_used_at": used_at,
    }


def _key(number: int, organization_id: str) -> dict[str, Any]:
    token = scoped_key(number)
    return {
        "id": _id("key row", number),
        "organization_id": organization_id,
        "name": f"page {number}",
        "prefix": token[:12],
        "sha256": digest(token),
        "is_active": True,
        "is_organization_key": False,
        "created_at": EPOCH + timedelta(seconds=number),
    }


def _grant(instance: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "key_id": _id("key row", number),
        "instance_id": instance["id"],
        "permissions": [Permission.READ.value, Permission.INTERACT.value],
    }
