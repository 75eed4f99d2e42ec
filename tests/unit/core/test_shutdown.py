"""What is called when the server stops: each once, and only what still runs."""

from __future__ import annotations

from contextlib import ExitStack

from chowder_local.core.shutdown import Stopping


def test_what_runs_is_called_once_and_what_has_ended_is_not() -> None:
    stopping, called = Stopping(), []
    with stopping.calling(lambda: called.append("ended")):
        pass
    with (
        stopping.calling(lambda: called.append("one")),
        stopping.calling(lambda: called.append("two")),
    ):
        assert called == []
        stopping.begin()
        stopping.begin()
    stopping.begin()
    assert stopping.has_begun
    assert sorted(called) == ["one", "two"]


def test_what_comes_too_late_is_called_at_once() -> None:
    stopping, called = Stopping(), []
    stopping.begin()
    with stopping.calling(lambda: called.append("late")):
        assert called == ["late"]
    assert called == ["late"]


def test_what_is_called_may_end_others() -> None:
    stopping, called = Stopping(), []
    with stopping.calling(lambda: called.append("other")):
        inner = ExitStack()
        inner.enter_context(stopping.calling(lambda: called.append("inner")))
        with stopping.calling(inner.close):
            stopping.begin()
    assert called == ["other"]
