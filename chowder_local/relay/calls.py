"""A sandbox's request to the relay, its credential, and the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.core import untrusted_json
from chowder_local.core.domain import ModelProvider
from chowder_local.relay.prompt_format import LONGEST_NAME, find_session
from chowder_local.relay.wire.anthropic import Anthropic
from chowder_local.relay.wire.conversation import play
from chowder_local.relay.wire.gemini import Gemini
from chowder_local.relay.wire.openai import OpenAI
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chowder_local.core.domain import InstanceId, OrganizationId, SandboxId
    from chowder_local.relay.prompt_format import PromptSession
    from chowder_local.relay.wire.wire_format import ParsedRequest, RenderedAnswer, WireFormat

_OPENAI = OpenAI()
WIRE_FORMATS: dict[str, WireFormat] = {
    each.provider: each for each in (Anthropic(), _OPENAI, Gemini())
}


def wire_format(provider: str) -> WireFormat:
    """The format of a provider's calls; named endpoints use OpenAI's."""
    return WIRE_FORMATS.get(provider, _OPENAI)


@dataclass(frozen=True)
class Credential:
    """The owner of a call and the provider's key. A warm sandbox has no owner: None."""

    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    sandbox_id: SandboxId
    key: str | None = field(repr=False)
    """None if the organization has none; "" for a provider that needs none."""


class CredentialResolver(Protocol):
    """Finds the key that a sandbox may use."""

    async def resolve(self, relay_token: str, provider: str) -> Credential:
        """The credential for a call. Raises RelayTokenInvalid if the token is unknown."""


@dataclass(frozen=True)
class RelayRequest:
    """A sandbox's model call as it arrives.

    Header names are in lower case; the path has no leading slash. The body is parsed on first use,
    once.
    """

    provider: str
    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    @cached_property
    def wire(self) -> WireFormat:
        return wire_format(self.provider)

    @cached_property
    def content(self) -> Any:
        """The parsed body, which can be written as JSON. Raises ValueError if it is not JSON."""
        return untrusted_json.read_encodable(self.body)

    @cached_property
    def model(self) -> str | None:
        model = self.wire.read_model(self.path, self.body)
        return model if model and len(model) <= LONGEST_NAME else None

    @property
    def model_id(self) -> str | None:
        """The model as messages name it: `provider/model` for one that the operator named."""
        is_named = self.model is not None and self.provider not in set(ModelProvider)
        return f"{self.provider}/{self.model}" if is_named else self.model

    @cached_property
    def system_prompt(self) -> str:
        """The system prompt; empty if the request has none or cannot be read."""
        try:
            return self.wire.system_prompt(self.content)
        except MALFORMED:
            return ""

    @cached_property
    def session(self) -> PromptSession | None:
        """The OpenClaw session of the call; None if its system prompt does not name one."""
        return find_session(self.body, lambda: self.system_prompt)

    def parse(self, created: int = 0) -> ParsedRequest | RenderedAnswer:
        """The parsed request; or the offline model's whole answer, such as an error."""
        return self.wire.parse(self.path, self.query, self.body, lambda: self.content, created)

    def with_content(self, content: Any, *, provider: str | None = None) -> RelayRequest:
        """The call with another body. Raises ValueError if a text is not valid Unicode."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        changed = replace(self, body=body, provider=provider or self.provider)
        # The cache of the `content` property.
        vars(changed)["content"] = content
        return changed


@dataclass(frozen=True)
class ModelAnswer:
    """The answer for a sandbox. Its owner closes it in any case, and `chunks` with it."""

    status: int
    headers: Sequence[tuple[str, str]]
    chunks: AsyncGenerator[bytes, None]
    close: Callable[[], Awaitable[None]]

    @property
    def content_type(self) -> str:
        return dict(self.headers).get("content-type", "")

    @property
    def is_page(self) -> bool:
        """Whether the answer is an HTML page, such as a proxy's error page."""
        return self.content_type.startswith("text/html")


def local_answer(rendered: RenderedAnswer, *more_headers: tuple[str, str]) -> ModelAnswer:
    """An answer that this process makes itself."""
    headers = [("content-type", rendered.content_type), *more_headers]
    chunks = play(rendered.steps)
    return ModelAnswer(rendered.status, headers, chunks, chunks.aclose)
