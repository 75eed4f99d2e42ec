"""The document's error responses, with examples made of the code's own errors (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.api.access import Access
from chowder_local.core.errors import ChowderError, agents, process, requests, sandboxes, upstream
from chowder_local.http.error_rendering import CODE_HEADER, detail_of, status_of
from chowder_local.http.message_errors import error_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.api.operations import Operation


class ErrorView(BaseModel):
    """An error."""

    detail: str = Field(examples=["Instance not found."])


class GatewayError(BaseModel):
    """An error of an agent's gateway or a model provider."""

    error: str = Field(examples=["Gateway unavailable – it does not answer"])


class GatewayErrorView(BaseModel):
    """An agent's gateway or a model provider failed, or refused the request."""

    detail: GatewayError


class Problem(BaseModel):
    """An invalid part of the request."""

    loc: list[str | int] = Field(
        description="The location: `body`, `query` or `path`, then the names and indexes below it.",
        examples=[["body", "name"]],
    )
    msg: str = Field(examples=["Field required"])
    type: str = Field(examples=["missing"])


class ValidationErrorView(BaseModel):
    """The request is invalid."""

    detail: list[Problem]


class MessageError(BaseModel):
    """The error in the format of OpenAI's API, which its SDKs read."""

    message: str = Field(examples=["Instance is stopped, but must be running for this."])
    type: str = Field(
        description="`invalid_request_error`, `rate_limit_error` or `server_error`.",
        examples=["invalid_request_error"],
    )
    code: str | None = Field(
        description="This server's name for the error, or the model provider's own.",
        examples=["instance_state_wrong"],
    )
    param: str | None = Field(description="The invalid member of the body, if it is exactly one.")


class _OfMessage(BaseModel):
    error: MessageError = Field(description="The same error, for SDKs of OpenAI's API.")


class MessageErrorView(_OfMessage, ErrorView):
    """An error of a message."""


class MessageGatewayErrorView(_OfMessage, GatewayErrorView):
    """An agent's gateway or a model provider failed, or refused the message."""


class MessageValidationErrorView(_OfMessage, ValidationErrorView):
    """The message is invalid."""


_MESSAGE_MODELS: Mapping[type[BaseModel], type[BaseModel]] = {
    ErrorView: MessageErrorView,
    GatewayErrorView: MessageGatewayErrorView,
    ValidationErrorView: MessageValidationErrorView,
}
"""The models of message routes, which add `error`."""
MODELS: tuple[type[BaseModel], ...] = (*_MESSAGE_MODELS, *_MESSAGE_MODELS.values())

_MISSING = {"loc": ["body", "name"], "msg": "Field required", "type": "missing"}
_HEADERS = {
    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
    CODE_HEADER: {"$ref": "#/components/headers/ErrorCode"},
}


@dataclass(frozen=True)
class Explanation:
    """A status and its description, examples and models."""

    description: str
    examples: tuple[ChowderError, ...]
    models: tuple[type[BaseModel], ...] = (ErrorView,)
    header: str | None = None


_PROVIDER = upstream.ProviderFailed("openai", 429, "Rate limit reached for gpt-4o.", "20")

EXPLANATIONS: Mapping[str, Explanation] = {
    "400": Explanation(
        "The request cannot be fulfilled as it is; the message says why.",
        (requests.ModelUnknown("llama"), requests.ModelKeyMissing("openai")),
    ),
    "401": Explanation(
        "The key is missing, unknown, revoked or expired.",
        (requests.KeyMissing(), requests.KeyInvalid()),
        header="WWW-Authenticate",
    ),
    "402": Explanation(
        "The subscription allows no further instance, or what may be spent is spent.",
        (requests.InstanceLimitReached(1, 1),),
    ),
    "403": Explanation(
        "The key may not do this.",
        (requests.OrganizationKeyRequired(), requests.PermissionMissing("read")),
    ),
    "404": Explanation(
        "The key's organization has nothing with this id or name.", (requests.InstanceNotFound(),)
    ),
    "409": Explanation(
        "The instance is in the wrong state.",
        (requests.InstanceStateWrong("stopped", "running"),),
        header="X-Should-Retry",
    ),
    "413": Explanation("The request is too large.", (requests.BodyTooLarge(33_554_432),)),
    "415": Explanation(
        "The request's body is compressed in an unknown way.",
        (requests.BodyEncodingUnknown("br"),),
    ),
    "422": Explanation(
        "The request is invalid; `loc` names each invalid part.",
        (requests.InputInvalid([_MISSING]),),
        (ValidationErrorView,),
    ),
    "502": Explanation(
        "The gateway, sandbox or engine failed or cannot be reached.",
        (
            agents.GatewayUnavailable("it does not answer"),
            sandboxes.EngineUnavailable("The container engine does not answer."),
        ),
        (GatewayErrorView, ErrorView),
    ),
    "507": Explanation(
        "A disk is full: the server's, the engine's or the agent's. What was acknowledged is kept, "
        "and the request succeeds once there is room.",
        (process.DataDirFull("The disk that holds the data is full."), agents.AgentDiskFull()),
        (GatewayErrorView, ErrorView),
    ),
    "4XX": Explanation(
        "The model provider refused the message; the status is its own.",
        (_PROVIDER,),
        (GatewayErrorView,),
    ),
    "5XX": Explanation(
        "The model provider failed; the status is its own.",
        (upstream.ProviderFailed("openai", 503, "The server is overloaded."),),
        (GatewayErrorView,),
    ),
}


def statuses_of(operation: Operation) -> Iterator[str]:
    """The error statuses of an operation, in order."""
    statuses = set(operation.errors)
    if operation.access is not Access.ANYONE:
        statuses.add(401)
    if operation.access not in (Access.ANYONE, Access.ANY_KEY):
        statuses.add(403)
        if "{" in operation.path:
            statuses.add(404)
    if operation.is_local or isinstance(operation.body, type) or operation.query is not None:
        statuses.add(422)
    if isinstance(operation.body, type) and operation.body_type == "application/json":
        statuses |= {413, 415}
    if operation.method != "GET" or 502 in statuses:
        statuses.add(507)
    yield from map(str, sorted(statuses))
    if operation.is_message:
        yield from ("4XX", "5XX")


def answers(operation: Operation) -> dict[str, Any]:
    """An operation's error responses, by status."""
    return {
        status: {"$ref": f"#/components/responses/{_name(status, operation.has_error)}"}
        for status in statuses_of(operation)
    }


def components(operations: Iterable[Operation]) -> dict[str, Any]:
    """The responses that `answers` refers to."""
    used = {
        (status, operation.has_error)
        for operation in operations
        for status in statuses_of(operation)
    }
    return {_name(*each): _described(*each) for each in sorted(used)}


def _name(status: str, has_error: bool) -> str:
    if status.endswith("XX"):
        return f"Provider{status}"
    name = HTTPStatus(int(status)).phrase.replace(" ", "")
    return f"{name}OrProvider" if has_error else name


def _example(error: ChowderError, has_error: bool) -> dict[str, Any]:
    detail = detail_of(error)
    if not has_error:
        return {"detail": detail}
    return {"detail": detail, "error": error_of(error, status_of(error), detail)}


def _described(status: str, has_error: bool) -> dict[str, Any]:
    explanation = EXPLANATIONS[status]
    models = dict.fromkeys(explanation.models)
    if has_error:
        models[GatewayErrorView] = None
        models = {_MESSAGE_MODELS[model]: None for model in models}
    shapes = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    examples = {each.code: {"value": _example(each, has_error)} for each in explanation.examples}
    headers: dict[str, Any] = dict(_HEADERS)
    if explanation.header is not None:
        headers[explanation.header] = {"schema": {"type": "string"}}
    if explanation.examples == (_PROVIDER,):
        headers["Retry-After"] = {"schema": {"type": "string"}, "description": "The provider's."}
    return {
        "description": explanation.description,
        "headers": headers,
        "content": {
            "application/json": {
                "schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes},
                "examples": examples,
            }
        },
    }
