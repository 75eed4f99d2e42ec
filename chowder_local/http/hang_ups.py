"""Ends what is done for a client that has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive


class HungUp(Exception):
    """The client closed the connection before the response ended."""


async def watch_for_hang_up(receive: Receive) -> None:
    """Raises HungUp when the client leaves. The body has to be read before."""
    # The next message is the disconnect.
    await receive()
    raise HungUp
