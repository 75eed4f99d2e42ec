"""The Python client of the API, for the command line and for tests.

The names of `__all__` are for everybody: the client, what its methods take and return, and the
errors that they raise.
"""

from __future__ import annotations

from chowder_local.client.channels import ChannelCalls
from chowder_local.client.local import LocalCalls
from chowder_local.client.skills import SkillCalls
from chowder_local.client.snapshots import SnapshotCalls
from chowder_local.client.test_support import SupportCalls
from chowder_local.client.transport import Json
from chowder_local.client.v1 import Input, V1Calls
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.errors.sandboxes import BootFailed, BootTimedOut
from chowder_local.core.errors.upstream import StreamBroken

__all__ = [
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


class Client(V1Calls, ChannelCalls, SkillCalls, LocalCalls, SupportCalls, SnapshotCalls):
    """Calls a chowder-local server; use it as a context manager, or `close()` it.

    `base_url` is the value that `chowder-local env` prints, with or without `/v1`. `key` is an
    organization key; `health()`, `is_ready()` and `signup()` need none. `timeout_s` limits an
    ordinary call, `turn_timeout_s` a whole turn of an agent, which may use tools for minutes.

    Methods return the JSON of the API: a dict with the contract's field names.

    Each method may raise ServerNotRunning if no server listens there, ServerSilent if the answer
    does not come in time or breaks off, and ApiRefused if the server answers with an error; it has
    the `status` and the server's message. All are subclasses of ChowderError.
    """
