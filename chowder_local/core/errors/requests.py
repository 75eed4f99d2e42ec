"""Errors of requests that are invalid or not allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHOWN_CHARACTERS = 100
"""The most characters of a caller's text that an error repeats."""


class HostUnknown(ChowderError):
    """The `Host` header has a name that is not this server's, as after DNS rebinding."""

    http_status = 403
    remedy = "Add the name to `CHOWDER_ALLOWED_HOSTS`, and start the server again."

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This server does not answer to the host name {host[:SHOWN_CHARACTERS]!r}. To allow "
            "it, add it to CHOWDER_ALLOWED_HOSTS (with commas) and start the server again."
        )


class PageRefused(ChowderError):
    """A page of another site sends a request that changes something."""

    http_status = 403
    remedy = "Add the page's origin to `CHOWDER_CORS_ORIGINS`, and start the server again."

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages of {origin[:SHOWN_CHARACTERS]!r} may not change anything on this server. To "
            "allow it, add the origin to CHOWDER_CORS_ORIGINS (with commas) and start it again."
        )


class KeyMissing(ChowderError):
    """The request has no API key."""

    http_status = 401
    remedy = "Send `Authorization: Bearer` and a key; `chowder-local env` prints one."
    message = "Missing API key. Send it as 'Authorization: Bearer chd_org_…'."


class KeyInvalid(ChowderError):
    """The key is unknown, revoked or expired."""

    http_status = 401
    remedy = "Use another key; `chowder-local env` prints the default organization's."
    message = "Invalid API key."


class ActionRefused(ChowderError):
    """The dashboard got a request for an action that none of its own pages sent."""

    http_status = 403
    remedy = (
        "Reload the page with JavaScript enabled, and try again. Programs call the API instead."
    )
    message = "The dashboard takes actions from its own pages only. Reload it, with JavaScript on."


class SignInNeeded(ChowderError):
    """A page of the dashboard was requested without a session."""

    http_status = 401
    remedy = "Sign in with an organization key, or run `chowder-local dashboard`."
    message = "Sign in with your organization's key."


class SignInLinkUsed(ChowderError):
    """A sign-in link was followed too late, or a second time."""

    http_status = 403
    remedy = "Get a new link with `chowder-local dashboard`."
    message = (
        "This link was used already or is too old. Get a new one with 'chowder-local "
        "dashboard', or sign in with your organization's key."
    )


class OrganizationKeyRequired(ChowderError):
    """The call needs an organization key, and the request has a scoped key."""

    http_status = 403
    remedy = "Use the organization's key."
    message = "This call needs an organization key."


class PermissionMissing(ChowderError):
    """The scoped key lacks the permission that the call needs for this instance."""

    http_status = 403
    remedy = "Create a key that has the permission, or use the organization's key."

    def __init__(self, permission: str) -> None:
        super().__init__(f"This key lacks the '{permission}' permission for this instance.")


class InstanceLimitReached(ChowderError):
    """The organization has as many instances as its tier allows."""

    http_status = 402
    remedy = "Delete an instance, or move to a higher tier with `POST /v1/subscription/portal`."

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"Instance limit reached ({count}/{limit}). Upgrade your subscription.")


class HoldEnded(ChowderError):
    """A model call that a breakpoint held was let go by nobody, until its time or the server ended.
    It was not sent.
    """

    http_status = 409
    refuses_model_call = True
    remedy = "Send the message again, and resume the call in time, or remove the breakpoint."

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"A breakpoint held a model call of the agent, and {reason}, so the call was not sent."
        )


class RouteMissing(ChowderError):
    """No call has the path, such as another one of OpenAI's API, or one with a wrong base URL."""

    http_status = 404
    remedy = "Call what the message names."


class InstanceNotFound(ChowderError):
    """The organization has no such instance, or it is terminated."""

    http_status = 404
    remedy = "Use an id from `GET /v1/instances`. For a name, the message has the id."

    def __init__(self, name: str = "", ids: Sequence[str] = ()) -> None:
        hint = f" The path takes an id, and {name!r} is the name of {' and '.join(ids)}."
        super().__init__(f"Instance not found.{hint if ids else ''}")


class TurnNotFound(ChowderError):
    """The conversation has no message at the position that a page of the dashboard requests."""

    http_status = 404
    remedy = "Reload the conversation's page."
    message = "Message not found."


class ModelCallNotFound(ChowderError):
    """The organization has no such model call, or it is not in memory any more."""

    http_status = 404
    remedy = "Use an id from `GET /local/instances/{instance_id}/model-calls`."
    message = "Model call not found: only the latest are kept, until the server ends."


class SessionNotFound(ChowderError):
    """The instance has no such session."""

    http_status = 404
    remedy = "Use a name from `GET /local/instances/{instance_id}/sessions`."
    message = "Session not found: a session exists from its first message on."


class SnapshotNotFound(ChowderError):
    """The organization has no such snapshot."""

    http_status = 404
    remedy = "Use an id from `GET /local/snapshots`."
    message = "Snapshot not found."


class ArchiveRefused(ChowderError):
    """The file to import is broken, or has content that no export has."""

    http_status = 400
    remedy = "Export the instance again and import that file."

    def __init__(self, reason: str) -> None:
        super().__init__(f"This archive cannot be imported: {reason}")


class OrganizationNotFound(ChowderError):
    """The key's organization does not exist any more."""

    http_status = 404
    remedy = "Use another organization's key, or sign up for a new organization."
    message = "Organization not found."


class KeyNotFound(ChowderError):
    """The organization has no such scoped key."""

    http_status = 404
    remedy = "Use an id from `GET /v1/keys`."
    message = "Key not found."


class FaultNotFound(ChowderError):
    """The organization has no such fault, or it is used up."""

    http_status = 404
    remedy = "Use an id from `GET /local/faults`."
    message = "Fault not found."


class FaultsFull(ChowderError):
    """The organization has 100 faults, or all organizations of the server together have 1000."""

    http_status = 409
    remedy = "Remove faults with `DELETE /local/faults`."

    def __init__(self, owner: str, limit: int) -> None:
        super().__init__(
            f"{owner} can have at most {limit} faults at once. Remove one with DELETE "
            "/local/faults/{id}, or all of the organization's with DELETE /local/faults."
        )


class FaultAnswered(ChowderError):
    """An injected fault has a status that no error of the server has."""

    remedy = "Nothing: a test has set the fault. Its status and message are those of the answer."

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = status


class LinkInvalid(ChowderError):
    """A checkout or portal link has expired, or is incomplete."""

    http_status = 400
    title = "This link does not work"
    remedy = (
        "Get a new link with `POST /v1/subscription/checkout` or `POST /v1/subscription/portal`."
    )
    message = "This link has expired or is incomplete. Request a new one."


class InstanceStateWrong(ChowderError):
    """The instance's status does not allow the call.

    The message of one whose boot is postponed goes on with the reason, such as a full disk.
    """

    http_status = 409
    remedy = "Wait while it is `provisioning`; else bring it to the status that the message names."
    retry = "while the instance is `provisioning`"

    def __init__(self, status: str, wanted: str, error_message: str | None = None) -> None:
        message = f"Instance is {status}, but must be {wanted} for this."
        if status == InstanceStatus.PROVISIONING and error_message is not None:
            message += f" It waits to boot: {error_message}"
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the instance will leave the status by itself."""
        return self.status == InstanceStatus.PROVISIONING


class InputInvalid(ChowderError):
    """The body, path or query of a request is invalid."""

    http_status = 422
    remedy = "Correct each place that `loc` names."

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("The request is not valid.")
        self.problems = [dict(problem) for problem in problems]  # in FastAPI's shape


class BodyTooLarge(ChowderError):
    """The request body is larger than the call takes: 1 MiB, 32 MiB for messages, 10 MiB for those
    of channels, or what `CHOWDER_MAX_BODY_BYTES` says for files, replies and recordings.
    """

    http_status = 413
    remedy = "Send less, or upload the content as a file."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class BodyEncodingUnknown(ChowderError):
    """The request body is compressed in a way that the server does not read."""

    http_status = 415
    remedy = "Send the body uncompressed, or as `gzip` or `deflate`."

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"A body with Content-Encoding {encoding[:SHOWN_CHARACTERS]!r} cannot be read. Send it "
            "uncompressed, or as gzip or deflate."
        )


class BodiesTooMany(ChowderError):
    """A sandbox calls the model relay while the bodies of other calls use all memory for bodies."""

    remedy = "Nothing: the agent tries again."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The bodies of other requests use all of the {limit_bytes} bytes that bodies may use "
            "together. Try again in a moment."
        )


class ClientStalled(ChowderError):
    """A client that uploads has sent nothing for too long."""

    http_status = 400
    remedy = "Upload again."

    def __init__(self, waited_s: float) -> None:
        super().__init__(f"The upload sent nothing for {waited_s:g} s; nothing was changed.")


class ModelUnknown(ChowderError):
    """The requested model belongs to no provider that the server knows."""

    http_status = 400
    param = "model"
    remedy = (
        "Use a model id that the message lists, or add a provider with `up --provider NAME=URL`."
    )

    def __init__(self, model: str, named: Iterable[str] = ()) -> None:
        providers = ", ".join(["anthropic", "openai", "gemini", *named])
        super().__init__(
            f"Unknown model {model!r}. Use claude-*, gpt-*, o1*, o3*, o4*, chatgpt-*, gemini-*, or "
            f"provider/model with one of {providers}; up --provider name=URL adds a provider."
        )


class ModelMissing(ChowderError):
    """Ollama runs, but does not have the model."""

    http_status = 400
    param = "model"
    remedy = "Run `ollama pull` with the model's name."

    def __init__(self, provider: str, model: str, models: Sequence[str]) -> None:
        listed = ", ".join(f"{provider}/{each}" for each in models[:20]) or "none"
        more = f" and {len(models) - 20} more" if len(models) > 20 else ""
        super().__init__(
            f"Ollama does not have the model {model!r}. It has: {listed}{more}. "
            f"Get it with: ollama pull {model}"
        )


class ProviderReserved(ChowderError):
    """The provider has a key, and the server uses it for its default organization only."""

    http_status = 400
    param = "model"
    remedy = "Call with the default organization's key."

    def __init__(self, provider: str) -> None:
        super().__init__(f"The server's key for {provider} is for its default organization only.")


class ModelKeyMissing(ChowderError):
    """The organization has no key for the model's provider."""

    http_status = 400
    param = "model"
    remedy = "Set one with `PATCH /v1/organization`; the value `offline` selects the offline model."

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"No API key for {provider} is set on the organization. Set one with "
            f'PATCH /v1/organization {{"model_api_keys": {{"{provider}": "…"}}}}; '
            'the value "offline" selects the built-in offline model.'
        )


class IdempotencyKeyInvalid(ChowderError):
    """The `Idempotency-Key` header is empty or too long."""

    http_status = 400
    remedy = "Send a key of a length that the message names."

    def __init__(self, longest: int) -> None:
        super().__init__(f"Idempotency-Key should have 1 to {longest} characters.")


class IdempotencyKeyReused(ChowderError):
    """Another message had the same `Idempotency-Key` within the last 24 hours."""

    http_status = 409
    remedy = "Send the same body again, or choose another key."
    message = (
        "Idempotency-Key: this key was used for another message within the last 24 hours. "
        "Send the same body again, or choose another key."
    )


class IdempotencyKeyInUse(ChowderError):
    """The message with this `Idempotency-Key` is still being answered."""

    http_status = 409
    remedy = "Try again after the seconds in `Retry-After` to get its answer."
    retry = "after the seconds in `Retry-After`"
    retry_after = "1"

    message = (
        "Idempotency-Key: the message with this key is still being answered. Try again in a "
        "moment to get its answer."
    )
