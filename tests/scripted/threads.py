"""Where functions run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

LONG_VALUES = "long-values_0"
"""The thread that has the work on long values."""


def note_threads(
    monkeypatch: pytest.MonkeyPatch, *functions: tuple[object, str]
) -> dict[str, set[str]]:
    """The names of the threads in which functions of modules run from now on, by their names."""
    threads: dict[str, set[str]] = {name: set() for _, name in functions}

    def noting(module: object, name: str) -> Callable[..., Any]:
        work = getattr(module, name)

        def noted(*args: Any, **options: Any) -> Any:
            threads[name].add(threading.current_thread().name)
            return work(*args, **options)

        return noted

    for module, name in functions:
        monkeypatch.setattr(module, name, noting(module, name))
    return threads
