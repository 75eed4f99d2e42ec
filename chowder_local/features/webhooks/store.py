"""The webhooks that agents send."""

from __future__ import annotations

from typing import ClassVar

from chowder_local.store.tables import EntryRow


class InboxRequestRow(EntryRow, table=True):
    """A webhook that an agent has sent."""

    __tablename__: ClassVar[str] = "inbox_request"
