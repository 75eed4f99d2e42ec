"""Creates the default organization and its key file at the first start."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING

from chowder_local.core.data_dir import write_private
from chowder_local.core.domain import (
    OFFLINE_KEY,
    ModelProvider,
    OrganizationId,
    Tier,
)
from chowder_local.core.errors.requests import (
    KeyInvalid,
    KeyMissing,
    OrganizationNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chowder_local.accounts.keys import Authentication
    from chowder_local.accounts.organizations import Organizations
    from chowder_local.store.database import MetaQueries
log = logging.getLogger(__name__)

NAME = "default"
FIRST_TIER = Tier.WHALE
META_NAME = "default_organization"


async def default_organization_id(meta: MetaQueries) -> OrganizationId:
    """The id of the default organization, which may not exist yet."""
    # Stored before the organization, so that a crash in between cannot lead to two of them.
    return OrganizationId(await meta.put_if_absent(META_NAME, str(uuid.uuid4())))


async def ensure_default(
    organizations: Organizations,
    default_key_file: Path,
    model_keys: Mapping[ModelProvider, str],
    meta: MetaQueries,
    authentication: Authentication,
    *,
    offline: bool,
    tier: Tier | None = None,
) -> OrganizationId:
    """Creates or repairs the default organization and its key file, and sets its model keys.

    After the first start, providers without a key in the environment keep the key that was set
    through the API, unless `offline` is set. The tier stays too, unless `tier` is another one.
    """
    organization_id = await default_organization_id(meta)
    changed = {each: key for each, key in model_keys.items() if offline or key != OFFLINE_KEY}
    try:
        details = await organizations.change(organization_id, model_api_keys=changed)
        if tier not in {None, details.organization.tier}:
            await organizations.move(organization_id, tier, is_paid_for=False)
    except OrganizationNotFound:
        _, raw_key = await organizations.signup(
            NAME, tier=tier or FIRST_TIER, model_keys=model_keys, organization_id=organization_id
        )
        await asyncio.to_thread(write_private, default_key_file, raw_key.encode())
        return organization_id
    if not await _is_valid(default_key_file, organization_id, authentication):
        # Earlier keys stay valid: a script may use one that is no longer in the file.
        raw_key = await authentication.issue(organization_id)
        await asyncio.to_thread(write_private, default_key_file, raw_key.encode())
        log.warning("%s had no valid key, so the server wrote a new one", default_key_file)
    return organization_id


async def _is_valid(
    key_file: Path, organization_id: OrganizationId, authentication: Authentication
) -> bool:
    try:
        raw_key = await asyncio.to_thread(key_file.read_text, errors="replace")
        caller = await authentication.caller(raw_key.strip())
    except (FileNotFoundError, KeyMissing, KeyInvalid):
        return False
    return caller.organization_id == organization_id and caller.is_organization_key
