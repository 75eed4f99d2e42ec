"""Edits of a configuration keep hidden values."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.openclaw.config.agent_config import merged
from chowder_local.openclaw.config.edits import HIDDEN, changed_paths, difference, visible_config

RELAY = {"apiKey": HIDDEN}


def test_reserved_paths_are_hidden() -> None:
    source = {
        "gateway": {"port": 1, "auth": {"token": HIDDEN}},
        "models": {"providers": {"chowder-openai": RELAY, "mine": {"apiKey": HIDDEN}}},
        "plugins": {"entries": {"admin-http-rpc": {"enabled": True}, "telegram": {"a": 1}}},
        "meta": {"version": "x"},
        "agents": {"entries": {"main": {}}},
    }
    assert visible_config(source) == {
        "models": {"providers": {"mine": {"apiKey": HIDDEN}}},
        "plugins": {"entries": {"telegram": {"a": 1}}},
        "agents": {"entries": {"main": {}}},
    }


def test_an_environment_is_hidden_whatever_its_names_are() -> None:
    assert visible_config({"env": {"vars": {"TZ": "UTC"}, "shellEnv": {"enabled": True}}}) == {
        "env": {"vars": {"TZ": HIDDEN}, "shellEnv": {"enabled": True}}
    }
    entry = {"enabled": True, "env": {"ROOM": "kitchen"}, "config": {"units": "metric"}}
    source = {"skills": {"entries": {"pager": entry, "broken": "?", "bare": {}}}}
    skill_entries = visible_config(source)["skills"]["entries"]
    assert skill_entries["pager"] == entry | {"env": {"ROOM": HIDDEN}}
    assert (skill_entries["broken"], skill_entries["bare"]) == ("?", {})
    assert entry["env"] == {"ROOM": "kitchen"}


@pytest.mark.parametrize("skills", ["?", {"entries": "?"}, {"entries": {"a": {"env": "?"}}}])
def test_malformed_configuration_stays_unchanged(skills: Any) -> None:
    assert visible_config({"skills": skills}) == {"skills": skills}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": {"c": []}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"a": {"b": {"c": 1}}}, {}),
        ({"a": {"b": 1}}, {"a": 5}),
        ({"a": 5}, {"a": {"b": 1}}),
        ({"a": [1, {"b": 2}]}, {"a": [{"b": 2}]}),
        ({"a": 1}, {"a": True}),
        ({"a": [0]}, {"a": [False]}),
        ({"a": {}}, {"a": {"b": {}}}),
    ],
)
def test_the_patch_turns_the_first_into_the_second(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    result = merged(before, difference(before, after))
    # repr, because 1 == True in Python but not in JSON.
    assert repr(result) == repr(after)


def test_equal_values_are_not_in_the_patch() -> None:
    before = {"a": {"secret": HIDDEN, "b": 1}, "list": [{"secret": HIDDEN}]}
    assert difference(before, before) == {}
    assert difference(before, before | {"c": 1}) == {"c": 1}


def test_a_secret_is_replaced_or_removed() -> None:
    before = {"a": {"secret": HIDDEN}}
    assert difference(before, {"a": {"secret": "new"}}) == {"a": {"secret": "new"}}
    assert difference(before, {"a": {}}) == {"a": {"secret": None}}


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({}, {"a": {"secret": HIDDEN}}, "a.secret"),
        ({"a": {"secret": HIDDEN}}, {"b": {"secret": HIDDEN}}, "b.secret"),
        ({"a": {"secret": 1}}, {"a": {"secret": HIDDEN}}, "a.secret"),
        # The remaining item is ambiguous.
        (
            {"a": [{"id": 1, "secret": HIDDEN}, {"id": 2, "secret": HIDDEN}]},
            {"a": [{"id": 2, "secret": HIDDEN}]},
            "a",
        ),
        ({"a": [HIDDEN, HIDDEN]}, {"a": [HIDDEN]}, "a"),
        ({}, {"a": [[HIDDEN]]}, "a"),
    ],
)
def test_a_placeholder_at_another_path_is_refused(
    before: dict[str, Any], after: dict[str, Any], path: str
) -> None:
    with pytest.raises(ConfigRefused) as refused:
        difference(before, after)
    assert [each.path for each in refused.value.problems] == [path]


def test_a_list_with_a_secret_is_replaced_by_what_is_written_out() -> None:
    before = {"a": [{"secret": HIDDEN}]}
    assert difference(before, {"a": [{"secret": "x"}]}) == {"a": [{"secret": "x"}]}
    assert difference(before, {}) == {"a": None}


def test_reserved_members_stay_when_their_object_is_deleted() -> None:
    before = {"plugins": {"entries": {"telegram": {"enabled": True}}}}
    assert difference(before, {}) == {"plugins": {"entries": {"telegram": None}}}
    assert difference({"models": {"providers": {"mine": {"a": 1}}}}, {}) == {
        "models": {"providers": {"mine": None}}
    }


def test_the_paths_that_a_patch_changes_are_named() -> None:
    assert list(changed_paths({"a": {"b": 1, "c": {"d": None}}, "e": {}})) == ["a.b", "a.c.d", "e"]
