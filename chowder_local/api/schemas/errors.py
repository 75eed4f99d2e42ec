"""Bodies: error responses."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
