"""Handlers: sessions, transcripts and usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.schemas.history import (
    KeyedTranscriptQuery,
    SessionsView,
    TranscriptQuery,
    TranscriptView,
)
from chowder_local.api.schemas.usage import UsageQuery, UsageReportView
from chowder_local.api.v1.responses import session_of
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import json_in_thread
from chowder_local.http.services import caller, instance_of, services
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def sessions(request: Request) -> Response:
    """The agent's sessions, whether it runs or is stopped."""
    reader = services(request).conversation_reader
    listed = await reader.sessions(await instance_of(request))
    return await json_in_thread(lambda: SessionsView.model_validate({"sessions": listed}))


async def main(request: Request) -> Response:
    """The transcript of the main session, or of the session with OpenClaw's `key`."""
    query = parse_query(request, KeyedTranscriptQuery)
    return await _transcript(request, query.key, query)


async def named(request: Request) -> Response:
    """The transcript of a named session."""
    query = parse_query(request, TranscriptQuery)
    return await _transcript(request, session_key(session_of(request)), query)


async def usage(request: Request) -> Response:
    """The cost of the organization's model calls, with those of deleted instances."""
    query = parse_query(request, UsageQuery)
    cost_reports = services(request).cost_reports
    report = await cost_reports.report(caller(request).organization_id, limit=query.limit)
    return await json_in_thread(lambda: UsageReportView.from_report(report))


async def usage_of_instance(request: Request) -> Response:
    """The cost of the instance's model calls."""
    query = parse_query(request, UsageQuery)
    instance = await instance_of(request)
    cost_reports = services(request).cost_reports
    report = await cost_reports.report(instance.organization_id, instance.id, limit=query.limit)
    return await json_in_thread(lambda: UsageReportView.from_report(report))


async def _transcript(request: Request, key: str, query: TranscriptQuery) -> Response:
    instance = await instance_of(request)
    transcript = await services(request).conversation_reader.transcript(
        instance, key, limit=query.limit, before=query.before
    )
    return await json_in_thread(lambda: TranscriptView.model_validate(transcript))
