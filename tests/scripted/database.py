"""Databases for tests, copied from a template that each process creates once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chowder_local.accounts.organizations import Organizations
from chowder_local.core.domain import ModelProvider, OrganizationId, Tier
from chowder_local.core.secrets import SecretBox
from chowder_local.store import database as database_module
from chowder_local.store.database import Database
from chowder_local.store.organizations import OrganizationQueries
from chowder_local.store.schema import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Dialect

SECRET = b"s" * 32
MODEL_KEYS = {ModelProvider.ANTHROPIC: "sk-ant", ModelProvider.OPENAI: "offline"}


@dataclass(frozen=True)
class Kitchen:
    """A database file with one organization, which has keys for two of the three providers."""

    path: Path
    organization_id: OrganizationId
    key: str
    """The organization's key."""
    secret: bytes = SECRET
    """What its configurations and model keys are encrypted with."""


def empty_database(folder: Path) -> Path:
    """A new database file in `folder`, of the newest schema."""
    return _copied(_template(), folder)


async def kitchen_database(folder: Path, clock: Callable[[], datetime]) -> Kitchen:
    """A new database file in `folder` with an organization, encrypted with `SECRET`.

    All files of a process contain the same organization, created at the first call's `clock`.
    """
    template = await asyncio.to_thread(_kitchen, clock())
    return Kitchen(_copied(template.path, folder), template.organization_id, template.key)


def _copied(template: Path, folder: Path) -> Path:
    path = folder / "chowder.db"
    shutil.copyfile(template, path)
    return path


@cache
def _compile_once() -> None:
    """Shares compiled SQL among all databases of the process: a fifth of a short test's time."""
    create, compiled = create_async_engine, dict[Any, Any]()
    shared: list[Dialect] = []

    def create_shared(*args: Any, **options: Any) -> AsyncEngine:
        engine = create(*args, **options)
        # The cache is keyed by the dialect object.
        shared.append(engine.sync_engine.dialect)
        engine.sync_engine.dialect = shared[0]
        engine.sync_engine.update_execution_options(compiled_cache=compiled)
        del shared[1:]
        return engine

    patch.object(database_module, "create_async_engine", create_shared).start()


@cache
def _template() -> Path:
    _compile_once()
    path = Path(_folder().name) / "template.db"
    prepare(path)
    return path


@cache
def _kitchen(now: datetime) -> Kitchen:
    return asyncio.run(_signed_up(now))


async def _signed_up(now: datetime) -> Kitchen:
    path = Path(_folder().name) / "kitchen.db"
    shutil.copyfile(_template(), path)
    async with Database.open(path) as database:
        organizations = Organizations(OrganizationQueries(database), SecretBox(SECRET), lambda: now)
        details, key = await organizations.signup("Kitchen", tier=Tier.CRAB, model_keys=MODEL_KEYS)
    return Kitchen(path, details.organization.id, key)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Cached, because the folder is deleted with the object."""
    return tempfile.TemporaryDirectory(prefix="chowder-template-")
