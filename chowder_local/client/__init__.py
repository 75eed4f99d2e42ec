"""The Python client of the API, for the command line and for tests.

The names of `__all__` are for everybody: the client, what its methods take and return, and the
errors that they raise.
"""

from __future__ import annotations

from chowder_local.client.calls import Client, Input
from chowder_local.client.transport import NULL, Json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.errors.sandboxes import BootFailed, BootTimedOut
from chowder_local.core.errors.upstream import StreamBroken

__all__ = [
    "NULL",
    "ApiRefused",
    "BootFailed",
    "BootTimedOut",
    "ChowderError",
    "Client",
    "Input",
    "Json",
    "ServerNotRunning",
    "ServerSilent",
    "StreamBroken",
]
