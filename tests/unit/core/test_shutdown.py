"""What is called when the server stops: each once, and only what still runs."""

from __future__ import annotations

from contextlib import ExitStack

from chowder_local.core.shutdown import Shutdown


def test_what_runs_is_called_once_and_what_has_ended_is_not() -> None:
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


def test_what_comes_too_late_is_called_at_once() -> None:
    shutdown, called = Shutdown(), []
    shutdown.begin()
    with shutdown.on_shutdown(lambda: called.append("late")):
        assert called == ["late"]
    assert called == ["late"]


def test_what_is_called_may_end_others() -> None:
    shutdown, called = Shutdown(), []
    with shutdown.on_shutdown(lambda: called.append("other")):
        inner = ExitStack()
        inner.enter_context(shutdown.on_shutdown(lambda: called.append("inner")))
        with shutdown.on_shutdown(inner.close):
            shutdown.begin()
    assert called == ["other"]
