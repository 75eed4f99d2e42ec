"""Nothing in the input of a call under `/local` is ignored, nor in the arguments of a tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from chowder_local.core.strict_model import (
    MAX_NAME_CHARS,
    MAX_UNKNOWN,
    StrictModel,
    numbers_of,
)
from chowder_local.features.front import all_operations

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = {"HookBody"}
"""OpenClaw's own, which grow with its hooks."""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for each in annotation.model_fields.values():
            yield from _models(each.annotation)
    for each in get_args(annotation):
        yield from _models(each)


MODELS = {
    model.__name__: model
    for operation in all_operations()
    if operation.is_local
    for part in (operation.body, operation.query)
    for model in _models(part)
}


def _problems(model: type[BaseModel], content: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(content)
    return {each["loc"]: each["type"] for each in refused.value.errors()}


@pytest.mark.parametrize("name", sorted(MODELS.keys() - OPEN))
def test_an_unknown_member_is_refused(name: str) -> None:
    assert _problems(MODELS[name], {"sesion": "x"})["sesion",] == "extra_forbidden"


@pytest.mark.parametrize(
    ("name", "misspelt", "hint"),
    [
        ("ClockSetting", "is_frozen", "Did you mean frozen? Allowed: at, frozen, seed"),
        ("ChannelMessageCreation", "form", "Did you mean from? Allowed: from, "),
        ("LogQuery", "zzz", "No such member. Allowed: "),
        ("a query without parameters", "limit", "No such member. Allowed: none"),
    ],
)
def test_the_nearest_member_is_suggested(name: str, misspelt: str, hint: str) -> None:
    model = MODELS.get(name, StrictModel)
    with pytest.raises(ValidationError, match=re.escape(hint)):
        model.model_validate({misspelt: 1})


def test_of_a_million_letters_and_mistakes_few_are_reported() -> None:
    long = {f"{'s' * 100_000}{number}": 1 for number in range(100)}
    found = _problems(MODELS["ClockSetting"], long)
    assert found.keys() == {("s" * MAX_NAME_CHARS,)}
    short = _problems(MODELS["ClockSetting"], dict.fromkeys(map(str, range(100_000)), 1))
    assert len(short) == MAX_UNKNOWN


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_boolean_is_no_number(name: str) -> None:
    model = MODELS[name]
    numbers = dict.fromkeys(numbers_of(model), False)
    if numbers:
        assert {loc[0] for loc in _problems(model, numbers)} >= numbers.keys()
