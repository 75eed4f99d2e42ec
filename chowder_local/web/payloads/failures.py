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
