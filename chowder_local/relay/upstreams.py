"""Routes model calls to providers and sends them, and checks that a provider has a model."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from typing import TYPE_CHECKING

from cachetools import TTLCache

from chowder_local.core.domain import OTHER_PROVIDERS, ModelProvider
from chowder_local.core.errors.requests import (
    ModelKeyMissing,
    ModelMissing,
    ModelUnknown,
    ProviderReserved,
)
from chowder_local.core.errors.upstream import ProviderFailed, StreamBroken, UpstreamFailed
from chowder_local.core.model_endpoints import models_in
from chowder_local.relay.calls import ModelAnswer
from chowder_local.relay.wire.errors import error_code, error_message
from chowder_local.relay.wire.wire_format import MALFORMED, bearer, strip_key
from chowder_local.upstream import forward

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from chowder_local.core.errors import ChowderError
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.relay.calls import RelayRequest
    from chowder_local.upstream.forward import Forwarder

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
TRUSTED_S = 60.0
"""How long a listed model counts as available. If it is removed meanwhile, its calls fail."""
USUAL_TAG = ":latest"
_CAPACITY = 1024


class Catalogue:
    """Lists a provider's models when one is first used, not at the server's start."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(_CAPACITY, TRUSTED_S)

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
        request_headers = forward.for_upstream([("accept", "application/json")], credential)
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


ENDPOINT_PATH = "chat/completions"
"""The only path called at a named provider: others may load, change or remove models."""
PATHS_SETTING = "CHOWDER_RELAY_PATHS"
_FORWARDED: Mapping[str, str] = {
    ModelProvider.ANTHROPIC: r"POST v1/messages(/count_tokens)?|GET v1/models(/[\w.:-]+)?",
    ModelProvider.OPENAI: r"POST (v1/)?(responses(/compact|/input_tokens)?|chat/completions|"
    r"embeddings|moderations|images/(generations|edits)|audio/(speech|transcriptions))|"
    r"GET (v1/)?models(/[\w.:-]+)?",
    ModelProvider.GEMINI: r"POST models/[\w.-]+:(generateContent|streamGenerateContent|"
    r"countTokens|embedContent|batchEmbedContents|predict)|GET models(/[\w.-]+)?",
}
"""Method and path of the calls that agents need: of models, and of nothing that is stored.

The path is as sent, so that no escape can stand for a slash or a dot.
"""
_PLAIN_PATH = re.compile(r"[\w.:-]+(/[\w.:-]+)*", re.ASCII)
_SHOWN_CHARACTERS = 100
LEAST_ANSWER_TOKENS = 16
"""The least that clients may ask for (OpenAI's Responses API). OpenClaw may ask for less."""
_MAX_ERROR_BYTES = 64 * 1024
_ERROR_TIMEOUT_S = 10.0


class Upstreams:
    """The large providers by base URL, and the endpoints that the operator named."""

    def __init__(
        self,
        base_urls: Mapping[str, str],
        endpoints: Mapping[str, Endpoint],
        forwarder: Forwarder,
        more_paths: Collection[str] = (),
    ) -> None:
        """`more_paths` are forwarded besides model calls, each with all that is below it."""
        self._base_urls = {**base_urls, **{each.name: each.url for each in endpoints.values()}}
        self._endpoints = endpoints
        self._forwarder = forwarder
        self._more_paths = more_paths

    def is_endpoint(self, provider: str) -> bool:
        """Whether the operator named the provider."""
        return provider in self._endpoints

    def route(self, request: RelayRequest) -> RelayRequest:
        """The call for its endpoint; unchanged if it does not name one.

        A sandbox has one provider for all endpoints, with model ids `name/model`. So warm sandboxes
        do not depend on the endpoints.
        """
        if request.provider != OTHER_PROVIDERS:
            return request
        try:
            content = dict(request.content)
            name, _, model = content["model"].partition("/")
            if name not in self._endpoints or not model:
                return request
            content["model"] = model
            # Ollama knows the older name only; the others know both.
            limit = content.pop("max_completion_tokens", None)
            # OpenClaw asks for a single token if it guesses that the prompt is too long.
            if limit is not None and limit >= LEAST_ANSWER_TOKENS:
                content["max_tokens"] = limit
            return request.with_content(content, provider=name)
        except MALFORMED:
            return request

    def path_refusal(self, request: RelayRequest) -> str | None:
        """Why a call's path is not forwarded with the organization's key; None if it is."""
        forwarded = _FORWARDED.get(request.provider)
        if forwarded is None or re.fullmatch(
            forwarded, f"{request.method} {request.path}", re.ASCII
        ):
            return None
        path = f"{request.provider}/{request.path}"
        if _PLAIN_PATH.fullmatch(path) and any(
            f"{path}/".startswith(f"{allowed}/") for allowed in self._more_paths
        ):
            return None
        return (
            f"The relay does not forward {request.method} {path[:_SHOWN_CHARACTERS]}: agents call "
            "models with the organization's key, and nothing else of the provider's. The server's "
            f"operator can allow more paths with {PATHS_SETTING}."
        )

    async def send(self, request: RelayRequest, key: str) -> ModelAnswer:
        """The provider's answer, streamed. Raises UpstreamFailed if none comes."""
        query = strip_key(request.query)
        url = f"{self._base_urls[request.provider]}/{request.path}" + (f"?{query}" if query else "")
        credential = request.wire.credential(key) if key else None
        request_headers = forward.for_upstream(request.headers, credential)
        # A local model may have to be loaded first, and reads prompts slowly.
        is_patient = self.is_endpoint(request.provider)
        answer = await self._forwarder.open(
            request.method, url, request_headers, request.body, is_patient=is_patient
        )
        return ModelAnswer(answer.status, answer.headers, answer.chunks(), answer.close)

    def missing_key(self, request: RelayRequest) -> ChowderError:
        """The error for a call without a key."""
        if self.is_endpoint(request.provider):
            return ProviderReserved(request.provider)
        if request.provider not in self._base_urls:
            return ModelUnknown(request.model or "", self._endpoints)
        return ModelKeyMissing(request.provider)

    def unreachable(self, request: RelayRequest, failed: UpstreamFailed) -> ProviderFailed:
        """The error for a provider that does not answer."""
        endpoint = self._endpoints.get(request.provider)
        message = str(failed) if endpoint is None else f"{failed}. {endpoint.remedy}"
        return ProviderFailed(request.provider, None, message)


async def read_failure(request: RelayRequest, answer: ModelAnswer, key: str) -> ProviderFailed:
    """The provider's refusal, with the key removed from its message. Closes the answer."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT_S), aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    except (TimeoutError, StreamBroken):
        # The status and a part of the message are better than nothing.
        pass
    finally:
        await answer.close()
    message = error_message(body)
    if key:
        message = message.replace(key, "…")
    return ProviderFailed(
        request.provider,
        answer.status,
        message or "no error message",
        dict(answer.headers).get("retry-after"),
        provider_code=error_code(body),
    )
