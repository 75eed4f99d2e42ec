"""Sessions of the dashboard, on a real store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import select

from chowder_local.accounts.dashboard_sessions import (
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
    """As a server has them that has just started."""
    return DashboardSessions(
        authentication=accounts.authentication,
        keys=accounts.keys,
        sessions=accounts.dashboard_sessions,
        box=accounts.box,
        store_id="abc",
        clock=accounts.clock,
    )


async def rows(accounts: Accounts) -> int:
    async with accounts.database.reading() as session:
        return len((await session.exec(select(DashboardSessionRow))).all())


async def test_a_session_outlives_the_server_and_so_does_its_end(accounts: Accounts) -> None:
    details, key = await accounts.organizations.signup("Kitchen")
    kept, ended = [await dashboard_sessions(accounts).begin(key) for _ in range(2)]
    await dashboard_sessions(accounts).end(ended)
    caller = await dashboard_sessions(accounts).caller(kept)
    assert caller.organization_id == details.organization.id
    assert caller.is_organization_key
    with pytest.raises(SignInNeeded):
        await dashboard_sessions(accounts).caller(ended)


async def test_what_is_over_anyway_is_forgotten(accounts: Accounts) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    for _ in range(2):
        await dashboard_sessions(accounts).begin(key)
        accounts.clock.now += timedelta(seconds=SESSION_LIFE_S + 1)
    assert await rows(accounts) == 1


async def test_those_who_sign_in_and_out_at_once_do_not_undo_each_others(
    accounts: Accounts,
) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    known = dashboard_sessions(accounts)
    ended = [await known.begin(key) for _ in range(10)]
    begun = await asyncio.gather(*(known.begin(key) for _ in ended), *map(known.end, ended))
    for session in ended:
        with pytest.raises(SignInNeeded):
            await known.caller(session)
    for kept in begun[: len(ended)]:
        assert (await known.caller(kept)).is_organization_key


@pytest.mark.parametrize("session", [None, "", "x", "é"])
async def test_what_is_no_session_is_nobodys(accounts: Accounts, session: str | None) -> None:
    with pytest.raises(SignInNeeded):
        await dashboard_sessions(accounts).caller(session)
    await dashboard_sessions(accounts).end(session)


async def test_no_key_and_a_wrong_one_begin_nothing(accounts: Accounts) -> None:
    with pytest.raises(KeyMissing):
        await dashboard_sessions(accounts).begin(None)
    with pytest.raises(KeyInvalid):
        await dashboard_sessions(accounts).begin("chd_org_x")


async def test_used_links_are_forgotten_once_they_are_too_old(accounts: Accounts) -> None:
    _, key = await accounts.organizations.signup("Kitchen")
    known = dashboard_sessions(accounts)
    link = sign_in_link(accounts.box, key, accounts.clock())
    assert (await known.caller(await known.redeem(link))).is_organization_key
    for seconds in (0, LINK_LIFE_S + 1):
        accounts.clock.now += timedelta(seconds=seconds)
        with pytest.raises(SignInLinkUsed):
            await known.redeem(link)


async def test_two_data_directories_have_cookies_of_their_own(accounts: Accounts) -> None:
    assert dashboard_sessions(accounts).cookie == "chowder_abc"
