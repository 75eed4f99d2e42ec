"""The providers that model calls go to: which one, and how a call is put to it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from chowder_local.core.domain import OTHER_PROVIDERS
from chowder_local.core.errors.requests import ModelKeyMissing, ModelUnknown, ProviderReserved
from chowder_local.core.errors.upstream import ProviderFailed, StreamBroken
from chowder_local.relay.calls import ModelAnswer
from chowder_local.relay.wire.errors import error_code, error_message
from chowder_local.relay.wire.wire_format import MALFORMED, strip_key
from chowder_local.upstream import headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.errors import ChowderError
    from chowder_local.core.errors.upstream import UpstreamFailed
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.relay.calls import ModelCall
    from chowder_local.upstream.forward import Forwarder

ENDPOINT_PATH = "chat/completions"
"""All that is called of a named provider: others of its paths may load, change and remove things.
"""
LEAST_ANSWER_TOKENS = 16
"""Clients may not ask for less (OpenAI's Responses API), so it is not they who do."""
_MAX_ERROR_BYTES = 64 * 1024
_ERROR_TIMEOUT_S = 10.0


class Upstreams:
    """The large providers by their base URLs, and the endpoints that the operator named."""

    def __init__(
        self, base_urls: Mapping[str, str], endpoints: Mapping[str, Endpoint], forwarder: Forwarder
    ) -> None:
        self._base_urls = {**base_urls, **{each.name: each.url for each in endpoints.values()}}
        self._endpoints = endpoints
        self._forwarder = forwarder

    def is_endpoint(self, provider: str) -> bool:
        """Whether the operator named the provider."""
        return provider in self._endpoints

    def route(self, call: ModelCall) -> ModelCall:
        """The call as its provider gets it; one that names no endpoint stays as it is.

        A sandbox has one provider for all endpoints, whose model ids are `name/model`: so a blank
        agent is the same whatever endpoints there are.
        """
        if call.provider != OTHER_PROVIDERS:
            return call
        try:
            content = dict(call.content)
            name, _, model = content["model"].partition("/")
            if name not in self._endpoints or not model:
                return call
            content["model"] = model
            # Ollama understands the older name only, and the others both.
            longest = content.pop("max_completion_tokens", None)
            # OpenClaw asks for a single token where it takes the prompt for too long, which is a
            # guess.
            if longest is not None and longest >= LEAST_ANSWER_TOKENS:
                content["max_tokens"] = longest
            return call.with_content(content, provider=name)
        except MALFORMED:
            return call

    async def send(self, call: ModelCall, key: str) -> ModelAnswer:
        """The provider's answer as it comes; raises UpstreamFailed."""
        query = strip_key(call.query)
        url = f"{self._base_urls[call.provider]}/{call.path}" + (f"?{query}" if query else "")
        sent = headers.for_upstream(call.headers, call.wire.credential(key) if key else None)
        # A model that runs on somebody's own machine may have to be loaded, and reads slowly.
        is_patient = self.is_endpoint(call.provider)
        answer = await self._forwarder.open(
            call.method, url, sent, call.body, is_patient=is_patient
        )
        return ModelAnswer(answer.status, answer.headers, answer.chunks(), answer.close)

    def missing_key(self, call: ModelCall) -> ChowderError:
        """Why there is no key for a call."""
        if self.is_endpoint(call.provider):
            return ProviderReserved(call.provider)
        if call.provider not in self._base_urls:
            return ModelUnknown(call.model or "", self._endpoints)
        return ModelKeyMissing(call.provider)

    def unreachable(self, call: ModelCall, failed: UpstreamFailed) -> ProviderFailed:
        """What to report of a provider that does not answer."""
        endpoint = self._endpoints.get(call.provider)
        message = str(failed) if endpoint is None else f"{failed}. {endpoint.cure}"
        return ProviderFailed(call.provider, None, message)


async def read_failure(call: ModelCall, answer: ModelAnswer, key: str) -> ProviderFailed:
    """A provider's refusal, without the key; closes the answer."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT_S), aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    except (TimeoutError, StreamBroken):
        # The status and what has come of the message are better than nothing.
        pass
    finally:
        await answer.close()
    message = error_message(body)
    if key:
        message = message.replace(key, "…")
    return ProviderFailed(
        call.provider,
        answer.status,
        message or "no words",
        dict(answer.headers).get("retry-after"),
        provider_code=error_code(body),
    )
