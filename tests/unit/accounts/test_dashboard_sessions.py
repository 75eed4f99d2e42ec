"""Sessions of the dashboard, on a real store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import select

from chowder_local.accounts.keys import (
    LINK_LIFE_S,
    SESSION_LIFE_S,
    DashboardSessions,
    sign_in_link,
)
from chowder_local.core.errors.requests import KeyInvalid, KeyMissing, SignInLinkUsed, SignInNeeded
from chowder_local.store.tables import DashboardSessionRow

if TYPE_CHECKING:
    from tests.unit.accounts.conftest import Accounts


def dashboard_sessions(accounts: Accounts) -> DashboardSessions:
    """The sessions of a server that has just started."""
    return DashboardSessions(
        authentication=accounts.authentication,
        keys=accounts.keys,
        sessions=accounts.dashboard_sessions,
        secret_box=accounts.secret_box,
        store_id="abc",
        clock=accounts.clock,
    )


async def rows(accounts: Accounts) -> int:
    async with accounts.database.reading() as session:
        return len((await session.exec(select(DashboardSessionRow))).all())


async def test_sessions_and_signing_out_survive_a_restart(accounts: Accounts) -> None:
    details, key = await accounts.organizations.signup("Kitchen")
    kept, ended = [await dashboard_sessions(accounts).begin(key) for _ in range(2)]
    await dashboard_sessions(accounts).end(ended)
    caller = await dashboard_sessions(accounts).caller(kept)
    assert caller.organization_id == details.organization.id
    assert caller.is_organization_key
    with pytest.raises(SignInNeeded):
        await dashboard_sessions(accounts).caller(ended)


async def test_expired_sessions_are_deleted(accounts: Accounts) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    for _ in range(2):
        await dashboard_sessions(accounts).begin(key)
        accounts.clock.now += timedelta(seconds=SESSION_LIFE_S + 1)
    assert await rows(accounts) == 1


async def test_concurrent_signing_in_and_out_affects_no_other_session(
    accounts: Accounts,
) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    sessions = dashboard_sessions(accounts)
    ended = [await sessions.begin(key) for _ in range(10)]
    begun = await asyncio.gather(*(sessions.begin(key) for _ in ended), *map(sessions.end, ended))
    for session in ended:
        with pytest.raises(SignInNeeded):
            await sessions.caller(session)
    for kept in begun[: len(ended)]:
        assert (await sessions.caller(kept)).is_organization_key


@pytest.mark.parametrize("session", [None, "", "x", "é"])
async def test_an_invalid_session_needs_signing_in(accounts: Accounts, session: str | None) -> None:
    with pytest.raises(SignInNeeded):
        await dashboard_sessions(accounts).caller(session)
    await dashboard_sessions(accounts).end(session)


async def test_a_missing_or_invalid_key_begins_no_session(accounts: Accounts) -> None:
    with pytest.raises(KeyMissing):
        await dashboard_sessions(accounts).begin(None)
    with pytest.raises(KeyInvalid):
        await dashboard_sessions(accounts).begin("chd_org_x")


async def test_used_links_are_dropped_after_they_expire(accounts: Accounts) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    sessions = dashboard_sessions(accounts)
    link = sign_in_link(accounts.secret_box, key, accounts.clock())
    assert (await sessions.caller(await sessions.redeem(link))).is_organization_key
    for seconds in (0, LINK_LIFE_S + 1):
        accounts.clock.now += timedelta(seconds=seconds)
        with pytest.raises(SignInLinkUsed):
            await sessions.redeem(link)


async def test_two_data_directories_have_different_cookie_names(accounts: Accounts) -> None:
    assert dashboard_sessions(accounts).cookie == "chowder_abc"
