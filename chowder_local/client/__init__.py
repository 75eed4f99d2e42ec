"""A client of the API and of what the local server adds to it, for the CLI and for test kits."""

from __future__ import annotations

from chowder_local.client.local import LocalCalls
from chowder_local.client.snapshots import SnapshotCalls
from chowder_local.client.test_support import SupportCalls
from chowder_local.client.v1 import V1Calls


class Client(V1Calls, LocalCalls, SupportCalls, SnapshotCalls):
    """Calls a chowder-local server; use it as a context manager, or `close()` it.

    `base_url` is what `chowder-local env` prints, with or without its `/v1`; `key` is an
    organization's API key, which only `health()` does without. `timeout_s` bounds an ordinary
    call, `turn_timeout_s` a whole turn of an agent, which may use tools for minutes.

    What comes back is the API's JSON as it is: a dict with the contract's field names.

    Each method may raise ServerNotRunning (nobody listens there), ServerSilent (the answer did not
    come in time or broke off) and ApiRefused (`status`, and the server's own message).
    """
