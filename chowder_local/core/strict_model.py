"""The base of models that are read from bodies and queries: nothing in them is ignored."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

NO_NUMBER = PydanticCustomError("number_type", "Input should be a number, not a boolean")


class StrictModel(BaseModel):
    """Refuses members that it does not have, and booleans in the place of numbers.

    Bodies of `/v1` are no such models: the hosted service ignores the ones and converts the others.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_no_booleans_for_numbers(cls, content: Any) -> Any:
        if isinstance(content, dict):
            wrong = [each for each in cls._numbers() if isinstance(content.get(each), bool)]
            if wrong:
                problems = [
                    InitErrorDetails(type=NO_NUMBER, loc=(each,), input=content[each])
                    for each in wrong
                ]
                raise ValidationError.from_exception_data(cls.__name__, problems)
        return content

    @classmethod
    @cache
    def _numbers(cls) -> frozenset[str]:
        return frozenset(numbers_of(cls))


def numbers_of(model: type[BaseModel]) -> list[str]:
    """The fields that may be numbers and no booleans."""
    annotations = {name: field.annotation for name, field in model.model_fields.items()}
    return [
        name
        for name, each in annotations.items()
        if (_has(each, int) or _has(each, float)) and not _has(each, bool)
    ]


def _has(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_has(each, kind) for each in get_args(annotation))
