"""The Python client of the API, for the command line and for tests."""

from __future__ import annotations

from chowder_local.client.channels import ChannelCalls
from chowder_local.client.local import LocalCalls
from chowder_local.client.skills import SkillCalls
from chowder_local.client.snapshots import SnapshotCalls
from chowder_local.client.test_support import SupportCalls
from chowder_local.client.v1 import V1Calls


class Client(V1Calls, ChannelCalls, SkillCalls, LocalCalls, SupportCalls, SnapshotCalls):
    """Calls a chowder-local server; use it as a context manager, or `close()` it.

    `base_url` is the value that `chowder-local env` prints, with or without `/v1`. `key` is an
    organization key; `health()`, `is_ready()` and `signup()` need none. `timeout_s` limits an
    ordinary call, `turn_timeout_s` a whole turn of an agent, which may use tools for minutes.

    Methods return the JSON of the API: a dict with the contract's field names.

    Each method may raise ServerNotRunning if no server listens there, ServerSilent if the answer
    does not come in time or breaks off, and ApiRefused if the server answers with an error; it has
    the `status` and the server's message.
    """
