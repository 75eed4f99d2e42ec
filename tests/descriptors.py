"""A pytest plugin: a module fails if this process keeps more and more open descriptors."""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

OPEN = "/proc/self/fd"
"""Only Linux has it; elsewhere nothing is counted."""
MOST_KEPT = 64
"""What clients of the whole session, such as the engine's, may keep in pools."""
_GROWTH = Counter[str]()
"""How many more descriptors were open after each module than before it."""
_allowed = 0


def pytest_collection_finish() -> None:
    global _allowed
    _allowed = count() + MOST_KEPT


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    global _allowed
    if fixturedef.scope not in {"session", "package"}:
        return (yield)
    before = count()
    try:
        return (yield)
    finally:
        _allowed += count() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    _GROWTH.setdefault(_module(item), -count())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    result = yield
    if nextitem is None or _module(nextitem) != _module(item):
        _judge(_module(item))
    return result


def _judge(module: str) -> None:
    global _allowed
    if count() > _allowed:
        gc.collect()
    excess = count() - _allowed
    _GROWTH[module] += count()
    if excess > 0:
        # The next module is not to blame.
        _allowed += excess
        kinds = Counter(re.sub(r"\d+", "…", each) for each in _targets())
        growth = ", ".join(f"{name}: {count:+}" for name, count in _GROWTH.most_common(5))
        pytest.fail(
            f"{module} leaves {excess + MOST_KEPT} descriptors open, and {MOST_KEPT} may stay. "
            f"Open are {dict(kinds.most_common(8))}. They grew in {growth}.",
            pytrace=False,
        )


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def count() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir(OPEN)) if os.path.exists(OPEN) else 0


def _targets() -> list[str]:
    targets = []
    for number in os.listdir(OPEN):
        try:
            targets.append(os.readlink(f"{OPEN}/{number}"))
        except FileNotFoundError:
            # The one that has listed them.
            continue
    return targets
