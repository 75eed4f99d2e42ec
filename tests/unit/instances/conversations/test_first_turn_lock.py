"""Messages that wait for the first turn of a session."""

from __future__ import annotations

import asyncio

import pytest

from chowder_local.instances.conversations.service import FirstTurnLocks

TIMEOUT_S = 10.0


class Turns:
    """Messages that hold their turns until `end`."""

    def __init__(self, first_turn_locks: FirstTurnLocks, group: asyncio.TaskGroup) -> None:
        self._first_turn_locks = first_turn_locks
        self._group = group
        self.begun: list[str] = []
        self._changed = asyncio.Condition()
        self._endings: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, name: str, session: str, *, is_opening: bool = True) -> None:
        self._endings[name] = asyncio.Event()
        self._tasks[name] = self._group.create_task(self._turn(name, session, is_opening))

    def cancel(self, name: str) -> None:
        self._tasks[name].cancel()

    def end(self, name: str) -> None:
        self._endings[name].set()

    async def until_begun(self, *names: str) -> None:
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: set(names) <= set(self.begun))

    async def _turn(self, name: str, session: str, is_opening: bool) -> None:
        async with self._first_turn_locks.turn(session) as opened:
            async with self._changed:
                self.begun.append(name)
                self._changed.notify_all()
            await self._endings[name].wait()
            if is_opening:
                opened()


async def test_messages_to_a_new_session_wait_until_it_exists() -> None:
    async with asyncio.TaskGroup() as group:
        turns = Turns(FirstTurnLocks(), group)
        for name in ("first", "second", "third"):
            turns.send(name, "s")
        await turns.until_begun("first")
        turns.send("elsewhere", "other")
        await turns.until_begun("elsewhere")
        assert turns.begun == ["first", "elsewhere"]
        turns.end("first")
        await turns.until_begun("second", "third")
        for name in ("second", "third", "elsewhere"):
            turns.end(name)


async def test_messages_to_an_existing_session_do_not_wait() -> None:
    first_turn_locks = FirstTurnLocks()
    async with first_turn_locks.turn("s") as opened:
        opened()
        opened()
        async with first_turn_locks.turn("s"), first_turn_locks.turn("s"):
            pass


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_after_a_failed_first_turn_the_next_one_is_the_first(is_cancelled: bool) -> None:
    async with asyncio.TaskGroup() as group:
        turns = Turns(FirstTurnLocks(), group)
        turns.send("first", "s", is_opening=False)
        turns.send("second", "s")
        turns.send("third", "s")
        await turns.until_begun("first")
        if is_cancelled:
            turns.cancel("first")
        turns.end("first")
        await turns.until_begun("second")
        assert "third" not in turns.begun
        turns.end("second")
        turns.end("third")


async def test_only_the_latest_sessions_are_remembered() -> None:
    first_turn_locks = FirstTurnLocks(capacity=2)
    for session in ("a", "b", "a", "c"):
        async with first_turn_locks.turn(session) as opened:
            opened()
    async with asyncio.TaskGroup() as group:
        turns = Turns(first_turn_locks, group)
        for session in ("a", "b"):
            turns.send(f"{session} one", session)
            turns.send(f"{session} two", session)
        await turns.until_begun("a one", "a two", "b one")
        assert "b two" not in turns.begun
        for name in ("a one", "a two", "b one", "b two"):
            turns.end(name)
