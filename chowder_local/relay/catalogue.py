"""Which models a named provider has, for those that are asked before an agent is."""

from __future__ import annotations

import asyncio
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
"""How long a model that was there is believed to be there; if it is not, its provider says so."""
USUAL_TAG = ":latest"
_KEPT = 1024


class Catalogue:
    """Asks a provider when a model is first used, and never at the server's start."""

    def __init__(self, forwarder: Forwarder, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._forwarder = forwarder
        self._seen: TTLCache[tuple[str, str], bool] = TTLCache(_KEPT, TRUSTED_S, clock_s)

    async def check(self, endpoint: Endpoint, model: str) -> None:
        """Raises ModelMissing, or ProviderFailed if nothing answers.

        What lists no models is left to say for itself what it has.
        """
        key = (endpoint.name, model)
        if endpoint.is_offline or key in self._seen:
            return
        there = await self._list(endpoint)
        if there is None:
            return
        if not {model, f"{model}{USUAL_TAG}"}.isdisjoint(there):
            self._seen[key] = True
            return
        raise ModelMissing(endpoint.name, model, there)

    async def _list(self, endpoint: Endpoint) -> list[str] | None:
        credential = bearer(endpoint.key) if endpoint.has_secret else None
        sent = headers.for_upstream([("accept", "application/json")], credential)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._forwarder.open("GET", f"{endpoint.url}/models", sent, b"")
                try:
                    body = await answer.read()
                finally:
                    await answer.close()
        except (UpstreamFailed, StreamBroken) as failed:
            raise ProviderFailed(endpoint.name, None, f"{failed}. {endpoint.cure}") from failed
        except TimeoutError:
            words = f"no answer within {TIMEOUT_S:g} seconds. {endpoint.cure}"
            raise ProviderFailed(endpoint.name, None, words) from None
        return models_in(body) if answer.is_success else None
