"""Every error that can be explained: one shallow tree, each a fact with a stable code.

http/error_rendering.py gives an error its HTTP status, and cli/exit_codes.py its exit code.
"""

from __future__ import annotations

import re
from typing import ClassVar


class ChowderError(Exception):
    """Something went wrong in a way that we can explain; `str()` is one sentence for a person."""

    code: ClassVar[str] = "error"
    """The class's name in snake case, which clients see: renaming a class changes the API."""
    message: ClassVar[str]
    """The sentence, where it is always the same."""

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.message if message is None else message)
