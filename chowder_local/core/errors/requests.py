"""Errors: what a request may not do, or says wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHOWN_CHARACTERS = 100
"""Of what a caller says and an error repeats."""


class HostUnknown(ChowderError):
    """The request is for a name that is not this server's, as after a rebinding of DNS."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This server is not known as {host[:SHOWN_CHARACTERS]!r}. If it is to be called by "
            "that name, start it with the name in CHOWDER_ALLOWED_HOSTS (several: with commas)."
        )


class PageRefused(ChowderError):
    """A page of another site sends a request that changes something."""

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages of {origin[:SHOWN_CHARACTERS]!r} may change nothing here. If they are to, "
            "start the server with their origin in CHOWDER_CORS_ORIGINS (several: with commas)."
        )


class KeyMissing(ChowderError):
    message = "Missing API key. Send it as 'Authorization: Bearer chd_org_…'."


class KeyInvalid(ChowderError):
    """The key is unknown, revoked or expired."""

    message = "Invalid API key."


class ActionRefused(ChowderError):
    """The dashboard was asked for an action, but not by one of its own pages."""

    message = (
        "The dashboard does what its own pages ask for, with scripts on, and nothing else. "
        "Open the page anew and try again; programs call the API."
    )


class SignInNeeded(ChowderError):
    """A page of the dashboard was requested without a session."""

    message = "Sign in with your organization's key."


class SignInLinkUsed(ChowderError):
    """A sign-in link was followed too late, or a second time."""

    message = (
        "This link was used already, or is too old. Get a new one with 'chowder-local "
        "dashboard', or sign in with your organization's key."
    )


class OrganizationKeyRequired(ChowderError):
    message = "This call needs an organization key."


class PermissionMissing(ChowderError):
    def __init__(self, permission: str) -> None:
        super().__init__(f"This key lacks the '{permission}' permission for this instance.")


class InstanceLimitReached(ChowderError):
    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"Instance limit reached ({count}/{limit}). Upgrade your subscription.")


class ChatCompletionsMissing(ChowderError):
    """A client calls the Chat Completions API, which agents do not have."""

    def __init__(self, path: str) -> None:
        super().__init__(
            "Agents speak the Responses API, not Chat Completions. POST to "
            f"/v1/{path}responses instead; with OpenAI's SDKs that is client.responses.create."
        )


class InstanceNotFound(ChowderError):
    message = "Instance not found."


class TurnNotFound(ChowderError):
    message = "Message not found."


class ExchangeNotFound(ChowderError):
    """No such model call of the caller's organization; it may have been one."""

    message = "Exchange not found: only the latest are kept, until the server ends."


class SessionNotFound(ChowderError):
    message = "Session not found: nobody has spoken to this agent in it."


class SnapshotNotFound(ChowderError):
    message = "Snapshot not found."


class ArchiveRefused(ChowderError):
    """An agent's archive is broken, or has what none of ours would have."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This archive of an agent is not taken: {reason}")


class OrganizationNotFound(ChowderError):
    message = "Organization not found."


class KeyNotFound(ChowderError):
    """No such scoped key in the caller's organization."""

    message = "Key not found."


class FaultNotFound(ChowderError):
    """No such fault in the caller's organization, or it is used up."""

    message = "Fault not found."


class FaultsFull(ChowderError):
    """There are so many faults that there can be no more."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"There can be no more faults: an organization may have {limit} at once. Take some "
            "back with DELETE /local/faults/{id}, or all with DELETE /local/faults."
        )


class FaultAnswered(ChowderError):
    """An injected fault whose status none of our own errors has."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LinkInvalid(ChowderError):
    message = "This link has expired, or it is not whole."


class InstanceStateWrong(ChowderError):
    """The instance is in a state in which the call makes no sense."""

    def __init__(self, status: str, wanted: str) -> None:
        super().__init__(f"Instance is {status}, but must be {wanted} for this.")
        self.status = status


class InputInvalid(ChowderError):
    """A request's body, path or query breaks a bound; `problems` are FastAPI-shaped."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("The request is not valid.")
        self.problems = [dict(problem) for problem in problems]


class BodyTooLarge(ChowderError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class BodyEncodingUnknown(ChowderError):
    """A request's body is compressed in a way that the server does not read."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"A body with Content-Encoding {encoding[:SHOWN_CHARACTERS]!r} cannot be read. Send it "
            "uncompressed, or as gzip or deflate."
        )


class BodiesTooMany(ChowderError):
    """The bodies of all requests together take all the memory that they may have."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The bodies of other requests take all of the {limit_bytes} bytes that they may take "
            "together. Try again in a moment."
        )


class ClientStalled(ChowderError):
    """A client that uploads has sent nothing for too long."""

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"The upload has not moved for {waited_s:g} s; nothing was changed.")


class ModelUnknown(ChowderError):
    """The requested model belongs to no known provider."""

    def __init__(self, model: str, named: Iterable[str] = ()) -> None:
        known = ", ".join(["anthropic", "openai", "gemini", *named])
        super().__init__(
            f"Unknown model {model!r}. Understood are claude-* (anthropic), gpt-*, o1*, o3*, o4*, "
            f"chatgpt-* (openai), gemini-* (gemini) and provider/model with one of {known}; "
            "up --provider name=URL makes another one known."
        )


class ModelMissing(ChowderError):
    """The provider runs, and says that it does not have the model."""

    def __init__(self, provider: str, model: str, there: Sequence[str]) -> None:
        shown = ", ".join(f"{provider}/{each}" for each in there[:20]) or "none"
        more = f" and {len(there) - 20} more" if len(there) > 20 else ""
        super().__init__(
            f"Ollama does not have the model {model!r}. It has: {shown}{more}. "
            f"Get it with: ollama pull {model}"
        )


class ProviderReserved(ChowderError):
    """A named provider has a key, which this organization may not use."""

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"The model provider {provider} takes a key, which this server lends to its own "
            "default organization only."
        )


class ModelKeyMissing(ChowderError):
    """The organization has no key for the provider that a message or instance needs."""

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"No API key for {provider} is set on the organization. Set one with "
            f'PATCH /v1/organization {{"model_api_keys": {{"{provider}": "…"}}}}; '
            'the value "offline" selects the built-in offline model.'
        )


class IdempotencyKeyInvalid(ChowderError):
    def __init__(self, longest: int) -> None:
        super().__init__(f"Idempotency-Key should have 1 to {longest} characters.")


class IdempotencyKeyReused(ChowderError):
    """A message has the key of another one."""

    message = (
        "Idempotency-Key: this key was used for another message within the last 24 hours. "
        "Send the same body again, or choose another key."
    )


class IdempotencyKeyInUse(ChowderError):
    message = (
        "Idempotency-Key: the message with this key is still being answered. Try again in a "
        "moment to get its answer."
    )
