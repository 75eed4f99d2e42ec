"""Errors of approvals."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class ApprovalNotFound(ChowderError):
    """No command of the agent waits for an approval with this id: somebody has decided, its time is
    over, or its turn has ended.
    """

    http_status = 404
    remedy = "Use an `id` from `GET /local/instances/{instance_id}/approvals`."
    message = (
        "No such command waits for an approval any more. GET "
        "/local/instances/{instance_id}/approvals lists those that do."
    )


class ApprovalRefused(ChowderError):
    """OpenClaw does not take a decision about a command, or a policy of approvals. The message is
    OpenClaw's.
    """

    http_status = 400
    remedy = "Take one of the approval's `decisions`, or correct what the message names."
