"""The base class of all errors that the server explains.

http/error_rendering.py gives an error its HTTP status, and cli/exit_codes.py its exit code. A
class's docstring says when the error is raised, and its `Remedy:` paragraph what to do then;
docs/reference/errors.md is generated from both.
"""

from __future__ import annotations

import re
from typing import ClassVar


class ChowderError(Exception):
    """An error that the server explains; `str()` is a message for people."""

    code: ClassVar[str] = "error"
    """The class's name in snake case, which clients see: renaming a class changes the API."""
    message: ClassVar[str]
    """The message, if it is always the same."""
    retry: ClassVar[str] = "no"
    """For a conflict (409): whether, or while what, the same request may succeed later."""

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.message if message is None else message)

    @property
    def may_pass(self) -> bool:
        """Whether a conflict may pass without the caller's doing; true to `retry`."""
        return self.retry != "no"
