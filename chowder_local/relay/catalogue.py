"""Checks that a named provider has a model before an agent uses it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from cachetools import TTLCache

from chowder_local.core.errors.requests import ModelMissing
from chowder_local.core.errors.upstream import ProviderFailed, StreamBroken, UpstreamFailed
from chowder_local.core.model_endpoints import models_in
from chowder_local.relay.wire.wire_format import bearer
from chowder_local.upstream import headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.upstream.forward import Forwarder

TIMEOUT_S = 5.0
TRUSTED_S = 60.0
"""How long a listed model counts as available. If it is removed meanwhile, its calls fail."""
USUAL_TAG = ":latest"
_CAPACITY = 1024

log = logging.getLogger(__name__)


class Catalogue:
    """Lists a provider's models when one is first used, not at the server's start."""

    def __init__(self, forwarder: Forwarder, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._forwarder = forwarder
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(_CAPACITY, TRUSTED_S, clock_s)

    async def check(self, endpoint: Endpoint, model: str) -> None:
        """Raises ModelMissing if the provider lists other models only, and ProviderFailed if it
        does not answer. A provider that lists no models passes.
        """
        key = (endpoint.name, model)
        if endpoint.is_offline or key in self._known:
            return
        models = await self._list(endpoint)
        if models is None:
            return
        if not {model, f"{model}{USUAL_TAG}"}.isdisjoint(models):
            self._known[key] = True
            return
        raise ModelMissing(endpoint.name, model, models)

    async def models(self, endpoint: Endpoint) -> list[str]:
        """Its models; none if it is offline, does not answer or lists none."""
        try:
            return [] if endpoint.is_offline else await self._list(endpoint) or []
        except ProviderFailed as failed:
            # Ollama is always among the endpoints, and seldom runs.
            log.debug("models cannot be listed: %s", failed)
            return []

    async def _list(self, endpoint: Endpoint) -> list[str] | None:
        credential = bearer(endpoint.key) if endpoint.has_secret else None
        request_headers = headers.for_upstream([("accept", "application/json")], credential)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                url = f"{endpoint.url}/models"
                answer = await self._forwarder.open("GET", url, request_headers, b"")
                try:
                    body = await answer.read()
                finally:
                    await answer.close()
        except (UpstreamFailed, StreamBroken) as failed:
            raise ProviderFailed(endpoint.name, None, f"{failed}. {endpoint.remedy}") from failed
        except TimeoutError:
            message = f"no answer within {TIMEOUT_S:g} seconds. {endpoint.remedy}"
            raise ProviderFailed(endpoint.name, None, message) from None
        return models_in(body) if answer.is_success else None
