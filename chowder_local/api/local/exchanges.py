"""Handlers: the model calls of agents, as they were sent and answered."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from chowder_local.api.schemas.exchanges import ExchangeDetailsView, ExchangeQuery, ExchangeView
from chowder_local.core.errors.requests import ExchangeNotFound
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.local_model import SessionName


async def index(request: Request) -> JSONResponse:
    """The instance's latest model calls, the last first; as many as are still in memory."""
    instance = await instance_of(request)
    limit = parse_query(request, ExchangeQuery).limit
    found = islice(services(request).exchanges.of_instance(instance.id), limit)
    views = [ExchangeView.of(each, _session(request, each)) for each in found]
    return JSONResponse([view.model_dump(mode="json") for view in views])


async def show(request: Request) -> JSONResponse:
    """One model call: the whole request, without headers, and its answer piece by piece."""
    organization_id = caller(request).organization_id
    found = services(request).exchanges.get(organization_id, request.path_params["exchange_id"])
    if found is None:
        raise ExchangeNotFound
    view = ExchangeDetailsView.of(found, _session(request, found))
    return JSONResponse(view.model_dump(mode="json"))


def _session(request: Request, exchange: LoggedCall) -> SessionName | None:
    if exchange.session_key is None or exchange.instance_id is None:
        return None
    return services(request).session_names.of(exchange.instance_id, exchange.session_key)
