"""The base of models that are read from bodies, queries and files: nothing in them is ignored."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MAX_UNKNOWN = 10
"""So many unknown members of an object are reported."""
MAX_NAME_CHARS = 60
"""So much of an unknown name is reported; it is longer than any member's name."""
MIN_RATIO = 0.6
NO_NUMBER = PydanticCustomError("number_type", "Input should be a number, not a boolean")


class StrictModel(BaseModel):
    """Refuses members that it does not have, and booleans in the place of numbers.

    Bodies of `/v1` are no such models: the hosted service ignores the ones and converts the others.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _is_as_declared(cls, content: Any) -> Any:
        if isinstance(content, dict) and (problems := list(cls._problems(content))):
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return content

    @classmethod
    def _problems(cls, content: Mapping[Any, Any]) -> Iterator[InitErrorDetails]:
        members = cls._members()
        for each in islice((each for each in content if each not in members), MAX_UNKNOWN):
            name = str(each)[:MAX_NAME_CHARS]
            yield {"type": _unknown(name, members), "loc": (name,), "input": content[each]}
        for each in cls._numbers():
            if isinstance(content.get(each), bool):
                yield {"type": NO_NUMBER, "loc": (each,), "input": content[each]}

    @classmethod
    @cache
    def _members(cls) -> dict[str, None]:
        """The names of the fields in the order of the class, each with its aliases."""
        names: dict[str, None] = {}
        for name, each in cls.model_fields.items():
            alias = each.validation_alias or name
            choices = alias.choices if isinstance(alias, AliasChoices) else (alias,)
            names |= dict.fromkeys(map(str, choices))
        return names

    @classmethod
    @cache
    def _numbers(cls) -> frozenset[str]:
        return frozenset(numbers_of(cls))


def nearest(name: str, names: Collection[str]) -> str | None:
    """The name that a misspelt one may have meant.

    Only the one with most letters in common is compared, because a body may have a hundred
    thousand mistakes.
    """
    if len(name) > MAX_NAME_CHARS or not names:
        return None
    letters = set(name)
    near = max(names, key=lambda each: len(letters.intersection(each)) / len(letters.union(each)))
    return near if SequenceMatcher(None, name, near).ratio() >= MIN_RATIO else None


def _unknown(name: str, members: Collection[str]) -> PydanticCustomError:
    near = nearest(name, members)
    return PydanticCustomError(
        "extra_forbidden",
        "No such member.{question} Allowed: {allowed}",
        {
            "question": f" Did you mean {near}?" if near else "",
            "allowed": ", ".join(members) or "none",
        },
    )


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
