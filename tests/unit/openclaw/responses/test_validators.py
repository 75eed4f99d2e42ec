"""Members have the right type, or are refused by name."""

from collections.abc import Callable
from typing import Any

import pytest

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.inputs import as_array, as_object, as_string, pick


def test_values_of_the_right_type_are_returned() -> None:
    assert as_object({"a": 1}, "it") == {"a": 1}
    assert as_object(None, "it") == {}
    assert as_array([1], "it") == [1]
    assert as_string("a", "it") == "a"


@pytest.mark.parametrize(
    ("read", "value", "kind"),
    [(as_object, [], "object"), (as_array, None, "array"), (as_string, 5, "string")],
)
def test_values_of_a_wrong_type_are_refused_by_name(
    read: Callable[[Any, str], Any], value: Any, kind: str
) -> None:
    with pytest.raises(MessageRefused, match=f"that thing must be an? {kind}"):
        read(value, "that thing")


def test_pick_keeps_only_present_members() -> None:
    assert pick({"a": 1, "b": None, "c": 3}, "a", "b", "d") == {"a": 1}
