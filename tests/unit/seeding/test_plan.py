"""The steps from the current to the desired state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.seeding.desired_state import (
    DesiredOrganization,
    Location,
    Sources,
    digest,
)
from chowder_local.seeding.plan import SeedStep, Send, contains, plan
from chowder_local.seeding.target import CurrentInstance, CurrentKey, CurrentOrganization

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Location(Path("seed.yaml"))


def organization(name: str, **fields: Any) -> DesiredOrganization:
    sources = Sources(Path(), {"MY_KEY": "sk-secret"})
    made = DesiredOrganization.model_validate({"name": name, **fields}, context=sources)
    made.set_location(ROOT / "organizations" / 0)
    return made


FIELDS: dict[str, Any] = {
    "tier": "crab",
    "model_keys": {"openai": "env:MY_KEY"},
    "budget": {"usd": 5, "per": "day"},
    "instances": [
        {
            "name": "ada",
            "model_provider": "openai",
            "openclaw_config": {"a.b": 1},
            "files": {"x": "text"},
            "sessions": [{"messages": ["one", "two"]}],
            "jobs": [{"name": "rep", "message": "go", "schedule": {"kind": "every", "every_s": 9}}],
            "budget": {"model_calls": 9, "per": "total"},
            "breakpoint": {"match": {"text": "weather"}, "once": True},
            "approvals": {"ask": "always"},
        }
    ],
    "keys": [{"name": "page", "instances": ["ada"], "permissions": ["read"]}],
}
KITCHEN = organization("kitchen", **FIELDS)
MAIN = KITCHEN.instances[0].sessions[0]

JOB = {
    "id": "j1",
    "name": "rep",
    "message": "go",
    "session": None,
    "model": None,
    "deliver": None,
    "is_enabled": True,
    "schedule": {"kind": "every", "at": None, "every_s": 9, "cron": None, "timezone": None},
}
BREAKPOINT = {"match": {"text": "weather"}, "once": True}
BUDGET = {"usd": 5.0, "tokens": None, "model_calls": None, "per": "day"}
POLICY = {"ask": "always", "security": "full", "ask_fallback": "deny", "allowlist": []}
FOUND_ADA = CurrentInstance(
    "i1",
    ModelProvider.OPENAI,
    {"a": {"b": 1, "c": 2}},
    {"x": digest("text")},
    {None: MAIN.digests},
    {"rep": JOB},
    BUDGET | {"usd": None, "model_calls": 9, "per": "total"},
    BREAKPOINT,
    POLICY,
)
FOUND_PAGE = CurrentKey("k1", {"i1": frozenset({Permission.READ})})
FOUND = CurrentOrganization(
    Tier.CRAB,
    {ModelProvider.OPENAI: digest("sk-secret")},
    {"ada": FOUND_ADA},
    {"page": FOUND_PAGE},
    BUDGET,
)


def steps(*wanted: DesiredOrganization, found: Mapping[str, CurrentOrganization]) -> list[SeedStep]:
    return plan(wanted, found, lambda organization, id_: f"rm {organization} {id_}")


def words(found: CurrentOrganization | None, wanted: DesiredOrganization = KITCHEN) -> list[str]:
    """The descriptions of the steps for the organization `kitchen`."""
    known = {} if found is None else {"kitchen": found}
    return [step.description for step in steps(wanted, found=known)]


def changed(**fields: Any) -> CurrentOrganization:
    """The desired state, except for some fields of the agent."""
    return replace(FOUND, instances={"ada": replace(FOUND_ADA, **fields)})


def test_an_empty_server_needs_all_steps_in_order() -> None:
    assert words(None) == [
        "sign up",
        "move to crab",
        "set the model keys of openai",
        "create ada",
        "set the budget",
        "set the budget of ada",
        "write x of ada",
        "send message 1 of 2 to the main conversation of ada",
        "send message 2 of 2 to the main conversation of ada",
        "create the job rep of ada",
        "set when ada asks for approvals",
        "make the key page",
        "set the breakpoint of ada",
    ]


def test_a_server_as_declared_needs_no_step() -> None:
    assert words(FOUND) == []


def test_what_the_file_does_not_name_is_left_alone() -> None:
    more = replace(
        FOUND,
        model_keys={**FOUND.model_keys, ModelProvider.GEMINI: digest("x")},
        instances={**FOUND.instances, "bea": FOUND_ADA},
        keys={**FOUND.keys, "other": FOUND_PAGE},
    )
    assert words(more) == []
    bare = organization("kitchen")
    assert words(more, bare) == []


DIFFERING = [
    (replace(FOUND, tier=Tier.WHALE), ["move to crab"]),
    (changed(jobs={}), ["create the job rep of ada"]),
    (changed(jobs={"rep": JOB | {"message": "stop"}}), ["change the job rep of ada"]),
    (changed(jobs={"rep": JOB | {"is_enabled": False}}), ["change the job rep of ada"]),
    (replace(FOUND, budget=None), ["set the budget"]),
    (replace(FOUND, budget=BUDGET | {"usd": 4.0}), ["set the budget"]),
    (changed(budget=None), ["set the budget of ada"]),
    (changed(breakpoint=None), ["set the breakpoint of ada"]),
    (changed(breakpoint=BREAKPOINT | {"once": False}), ["set the breakpoint of ada"]),
    (changed(breakpoint=BREAKPOINT | {"match": {"text": "rain"}}), ["set the breakpoint of ada"]),
    (changed(approvals=POLICY | {"ask": "off"}), ["set when ada asks for approvals"]),
    (replace(FOUND, model_keys={}), ["set the model keys of openai"]),
    (replace(FOUND, model_keys={ModelProvider.OPENAI: digest("old")}),
     ["set the model keys of openai"]),
    (changed(openclaw_config={}), ["configure ada"]),
    (changed(openclaw_config={"a": {"b": 2}}), ["configure ada"]),
    (changed(files={}), ["write x of ada"]),
    (changed(files={"x": digest("other")}), ["write x of ada"]),
    (changed(sent={}), ["send message 1 of 2 to the main conversation of ada",
                        "send message 2 of 2 to the main conversation of ada"]),
    (changed(sent={None: MAIN.digests[:1]}),
     ["send message 2 of 2 to the main conversation of ada"]),
    (replace(FOUND, keys={}), ["make the key page"]),
    (replace(FOUND, keys={"page": replace(FOUND_PAGE, grants={})}), ["renew the key page"]),
    (replace(FOUND, keys={"page": CurrentKey("k", {"i1": frozenset({Permission.FILES})})}),
     ["renew the key page"]),
    (replace(FOUND, keys={"page": CurrentKey("k", {"i9": frozenset({Permission.READ})})}),
     ["renew the key page"]),
    (replace(FOUND, keys={"page": replace(FOUND_PAGE,
                                          expires_at=datetime(2030, 1, 1, tzinfo=UTC))}),
     ["renew the key page"]),
    (replace(FOUND, instances={}),
     ["create ada", "set the budget of ada", "write x of ada",
      "send message 1 of 2 to the main conversation of ada",
      "send message 2 of 2 to the main conversation of ada", "create the job rep of ada",
      "set when ada asks for approvals", "renew the key page", "set the breakpoint of ada"]),
]  # fmt: skip


def test_each_difference_needs_its_steps() -> None:
    assert [(found, words(found)) for found, _ in DIFFERING] == DIFFERING


def test_agents_of_all_organizations_are_created_before_one_is_waited_for() -> None:
    cellar = organization("cellar", **FIELDS)
    made = [str(each) for each in steps(KITCHEN, cellar, found={})]
    assert made.index("cellar: create ada") < made.index("kitchen: write x of ada")


def test_a_message_step_has_the_digests_of_earlier_messages() -> None:
    sending = [each for each in steps(KITCHEN, found={}) if isinstance(each, Send)]
    assert {each.model for each in sending} == {"gpt-4o"}
    assert [each.before for each in sending] == [(), MAIN.digests[:1]]
    assert [each.location.path[-1] for each in sending] == [0, 1]


def test_no_step_shows_a_secret() -> None:
    for step in steps(KITCHEN, found={}):
        assert "sk-secret" not in repr(step)
        assert "sk-secret" not in str(step)


@pytest.mark.parametrize("sent", [("x",), (digest("one"), "x"), (*MAIN.digests, "x")])
def test_changed_earlier_messages_are_refused(sent: tuple[str, ...]) -> None:
    with pytest.raises(
        SettingsInvalid, match=r"sent other messages to this session of ada.* rm kitchen i1"
    ):
        words(changed(sent={None: sent}))


def test_another_provider_of_an_agent_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match=r"ada exists with gemini.* rm kitchen i1"):
        words(changed(model_provider=ModelProvider.GEMINI))


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ({}, {}, True),
        ({"a": 1}, {}, True),
        ({}, {"a": None}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1, "c": 1}}, {"a": {"b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        ({"a": {"b": 1}}, {"a": {}}, True),
        ({"a": 1}, {"a": {}}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": 1}, {"a": True}, False),
    ],
)
def test_a_configuration_contains_the_desired_values_or_not(
    current: dict[str, Any], wanted: dict[str, Any], expected: bool
) -> None:
    assert contains(current, wanted) == expected
