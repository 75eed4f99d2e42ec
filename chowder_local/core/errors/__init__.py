"""The base class of all errors that the server explains.

An error's class declares all there is to it; its docstring says when the error is raised.
docs/reference/errors.md is generated from the classes.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE = 1


class ChowderError(Exception):
    """An error that the server explains; `str()` is a message for people."""

    code: str = "error"
    """The class's name in snake case, which clients see: renaming a class changes the API."""
    http_status: int | None = None
    """None: no client of the API gets this error."""
    exit_code: ClassVar[int] = FAILURE
    """The exit code of a command that the error ends, which scripts may rely on."""
    message: ClassVar[str]
    """The message, if it is always the same."""
    remedy: ClassVar[str]
    """What the reader of the message should do, in Markdown."""
    retry: ClassVar[str] = "no"
    """For a conflict (409): whether, or while what, the same request may succeed later."""
    members: Mapping[str, Any] = MappingProxyType({})
    """What the answer's body has besides its `detail`."""
    retry_after: str | None = None
    """The `Retry-After` header of the answer."""
    is_proxied: ClassVar[bool] = False
    """Whether the answer's `detail` is an object with `error`, as the contract has it for failures
    behind the server."""
    param: ClassVar[str | None] = None
    """The member of a message's body that is at fault, if it is always the same."""
    refuses_model_call: ClassVar[bool] = False
    """Whether it ends a model call before that is sent, and costs something. Clients of the message
    get its code."""
    title: ClassVar[str | None] = None
    """The dashboard's title for the error, in place of its status's."""

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(self.message if message is None else message)

    @property
    def may_pass(self) -> bool:
        """Whether a conflict may pass without the caller's doing; true to `retry`."""
        return self.retry != "no"
