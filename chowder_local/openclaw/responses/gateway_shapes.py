"""Validates a gateway's responses and events before their members are used (pure)."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field

MAX_ANSWER_BYTES = 1_500_000
"""For an answer, and for an event of a stream; 128,000 tokens of a model are half a megabyte."""
MAX_ANSWER_VALUES = 10_000
"""So many are checked and translated within 50 ms."""
ID_CHARACTERS = 256

Element = TypeVar("Element")
# Otherwise an error is made for each of the elements.
FailFastList = Annotated[list[Element], FailFast()]


class _Shape(BaseModel):
    """Declared members must have these types if they are present; other members are ignored."""

    model_config = ConfigDict(strict=True)


class _Part(_Shape):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(_Shape):
    type: str
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: FailFastList[_Part] = []


class _Usage(_Shape):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, Any] | None = None
    output_tokens_details: dict[str, Any] | None = None


class _Response(_Shape):
    # The traces of thousands of answers keep it.
    id: Annotated[str, Field(max_length=ID_CHARACTERS)] | None = None
    status: str | None = None
    output: FailFastList[_Item] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


class _Event(_Shape):
    type: str
    response: _Response = _Response()
    item: _Item = _Item(type="")
    part: _Part = _Part(type="")
    delta: str = ""
    text: str = ""
    output_index: int = 0


def check_response(value: dict[str, Any]) -> None:
    """Raises ValueError if a response's members have wrong types."""
    _Response.model_validate(value)


def check_event(value: dict[str, Any]) -> None:
    """Raises ValueError if the members of a stream's event have wrong types."""
    _Event.model_validate(value)
