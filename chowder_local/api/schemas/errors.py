"""Bodies: what an error says."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ErrorView(BaseModel):
    """What went wrong."""

    detail: str = Field(examples=["Instance not found."])


class GatewayError(BaseModel):
    """What went wrong behind this server."""

    error: str = Field(examples=["Gateway unavailable – it does not answer"])


class GatewayErrorView(BaseModel):
    """An agent's gateway or a model provider failed, or refused."""

    detail: GatewayError


class Problem(BaseModel):
    """A part of the request that breaks a bound."""

    loc: list[str | int] = Field(
        description="Where: `body` or `query`, then the way to the part.",
        examples=[["body", "name"]],
    )
    msg: str = Field(examples=["Field required"])
    type: str = Field(examples=["missing"])


class ValidationErrorView(BaseModel):
    """Which parts of the request break a bound."""

    detail: list[Problem]


class MessageError(BaseModel):
    """What went wrong, as OpenAI's API writes it and its SDKs read it."""

    message: str = Field(examples=["Instance is stopped, but must be running for this."])
    type: str = Field(
        description="`invalid_request_error`, `rate_limit_error` or `server_error`.",
        examples=["invalid_request_error"],
    )
    code: str | None = Field(
        description="This server's name for the error, or the model provider's own.",
        examples=["instance_state_wrong"],
    )
    param: str | None = Field(description="The member of the body that is at fault, if it is one.")


class _OfMessage(BaseModel):
    error: MessageError = Field(description="The same once more, for SDKs of OpenAI's API.")


class MessageErrorView(_OfMessage, ErrorView):
    """What went wrong with a message."""


class MessageGatewayErrorView(_OfMessage, GatewayErrorView):
    """An agent's gateway or a model provider failed, or refused a message."""


class MessageValidationErrorView(_OfMessage, ValidationErrorView):
    """Which parts of a message break a bound."""
