"""A sandbox's model call, whose it is, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from chowder_local.core.domain import wire_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId, SandboxId


@dataclass(frozen=True)
class Credential:
    """Who calls, nobody if it is a spare, and with whose key.

    None if none is set, "" for a provider that wants none.
    """

    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    sandbox_id: SandboxId
    key: str | None


class CredentialResolver(Protocol):
    """Knows which organization's key a sandbox may use."""

    async def lend(self, relay_token: str, provider: str) -> Credential:
        """The credential for a call; raises RelayTokenInvalid for a token that is not ours."""


@dataclass(frozen=True)
class ModelCall:
    """A sandbox's request; header names are in lower case, the path has no leading slash."""

    provider: str
    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def wire(self) -> ModelProvider:
        """Whose format it is in."""
        return wire_of(self.provider)


@dataclass(frozen=True)
class ModelAnswer:
    """What a sandbox gets; whoever holds one closes it, read or not, and its chunks with it."""

    status: int
    headers: Sequence[tuple[str, str]]
    chunks: AsyncGenerator[bytes, None]
    close: Callable[[], Awaitable[None]]

    @property
    def is_page(self) -> bool:
        """Whether something on the way answers with a page for people, as proxies do."""
        return dict(self.headers).get("content-type", "").startswith("text/html")


def whole(
    status: int, answer_headers: Sequence[tuple[str, str]], chunks: AsyncGenerator[bytes, None]
) -> ModelAnswer:
    """An answer that is made here, with nothing to close behind its chunks."""
    return ModelAnswer(status, answer_headers, chunks, chunks.aclose)
