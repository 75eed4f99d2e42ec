"""Callbacks of a shutdown are called once, and only within their block."""

from __future__ import annotations

from contextlib import ExitStack

from chowder_local.core.tasks import Shutdown


def test_callbacks_within_their_block_are_called_once() -> None:
    shutdown, called = Shutdown(), []
    with shutdown.on_shutdown(lambda: called.append("ended")):
        pass
    with (
        shutdown.on_shutdown(lambda: called.append("one")),
        shutdown.on_shutdown(lambda: called.append("two")),
    ):
        assert called == []
        shutdown.begin()
        shutdown.begin()
    shutdown.begin()
    assert shutdown.has_begun
    assert sorted(called) == ["one", "two"]


def test_a_callback_after_the_shutdown_began_is_called_at_once() -> None:
    shutdown, called = Shutdown(), []
    shutdown.begin()
    with shutdown.on_shutdown(lambda: called.append("late")):
        assert called == ["late"]
    assert called == ["late"]


def test_a_callback_may_end_another_block() -> None:
    shutdown, called = Shutdown(), []
    with shutdown.on_shutdown(lambda: called.append("other")):
        inner = ExitStack()
        inner.enter_context(shutdown.on_shutdown(lambda: called.append("inner")))
        with shutdown.on_shutdown(inner.close):
            shutdown.begin()
    assert called == ["other"]
