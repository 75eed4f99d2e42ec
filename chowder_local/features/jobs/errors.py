"""Errors of jobs."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class JobNotFound(ChowderError):
    """The agent has no scheduled job with this id."""

    http_status = 404
    remedy = "Use an `id` from `GET /local/instances/{instance_id}/jobs`."
    message = "Job not found: use an id from the list of the agent's jobs."


class JobRefused(ChowderError):
    """OpenClaw does not take a scheduled job. The message is OpenClaw's."""

    http_status = 400
    remedy = "Correct what the message names."
