"""The published contract, our document, the differences and the suite: none says more than all."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.api.openapi import differences
from chowder_local.api.openapi.document import document
from chowder_local.conformance import published
from chowder_local.conformance.drift import Drift, fits
from chowder_local.features.front import all_operations
from tests.unit.conformance.contracts import documented, restated

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = Path(published.__file__).parent / "suite"
PUBLISHED = published.read()
ENTRIES = differences.by_id()


@cache
def modules() -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text()) for path in SUITE.glob("test_*.py")}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for name, module in modules().items():
        for node in ast.walk(module):
            yield name, node


def judge_calls() -> Iterator[ast.Call]:
    """The calls of `judge` in the suite."""
    for _, node in nodes():
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "judge":
            yield node


def ids_in_the_suite() -> set[str]:
    found: set[str] = set()
    for call in judge_calls():
        first = call.args[0]
        # The one that is computed is the name of a channel whose fields differ.
        found |= {str(first.value)} if isinstance(first, ast.Constant) else different_channels()
    return found


def different_channels() -> set[str]:
    (value,) = (
        node.value
        for _, node in nodes()
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIFFERENT"
    )
    channels: set[str] = ast.literal_eval(value)
    return channels


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The places where the contracts differ."""
    return [each for each in ours | theirs if ours.get(each) != theirs.get(each)]


def unexplained(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What only one of the contracts has, or has otherwise, without an entry."""
    patterns = [pattern for entry in ENTRIES.values() for pattern in entry.contract]

    def is_explained(place: str) -> bool:
        # What the pages have may not go missing behind a pattern.
        return place in patterns or (
            place not in theirs and any(fnmatchcase(place, each) for each in patterns)
        )

    return [
        f"{each}: {theirs.get(each)} published, {ours.get(each)} here"
        for each in differing(ours, theirs)
        if not is_explained(each)
    ]


def test_what_only_one_contract_has_is_a_difference() -> None:
    assert unexplained(documented(document(all_operations())), restated(PUBLISHED)) == []


@pytest.mark.parametrize(
    "changed",
    ["getKey", "getKey 404", "getKey answer.is_active", "createKey body.name", "getKey access"],
)
def test_a_call_status_field_or_access_that_goes_missing_is_noticed(changed: str) -> None:
    ours = documented(document(all_operations()))
    assert ours.pop(changed)
    assert [each.partition(":")[0] for each in unexplained(ours, restated(PUBLISHED))] == [changed]


def test_every_pattern_of_the_differences_explains_something() -> None:
    places = differing(documented(document(all_operations())), restated(PUBLISHED))
    idle = [
        pattern
        for entry in ENTRIES.values()
        for pattern in entry.contract
        if not any(fnmatchcase(each, pattern) for each in places)
    ]
    assert idle == []


def test_an_id_is_of_one_difference() -> None:
    ids = [each.id for section in differences.sections() for each in section.differences]
    assert len(set(ids)) == len(ids)


def test_exactly_the_differences_with_an_expectation_are_judged_by_the_suite() -> None:
    assert ids_in_the_suite() == {name for name, entry in ENTRIES.items() if entry.expect}


def test_the_suite_tolerates_only_what_a_difference_has() -> None:
    """A status is compared by the checks of answers, or else judged."""
    allowed = {id(each) for call in judge_calls() for each in ast.walk(call)}
    tolerant = [
        f"{name}:{node.lineno}"
        for name, node in nodes()
        if isinstance(node, ast.Attribute)
        and node.attr == "status_code"
        and id(node) not in allowed
    ]
    assert tolerant == []


def test_every_contradiction_of_the_pages_is_settled_by_an_entry_or_a_test() -> None:
    tests = {node.name for _, node in nodes() if isinstance(node, ast.FunctionDef)}
    open_ones = [
        each.says
        for each in PUBLISHED.contradictions
        if not (each.entry in ENTRIES or (each.entry is None and each.test in tests))
    ]
    assert open_ones == []
    assert len(PUBLISHED.contradictions) > 15


def test_samples_that_disagree_fit_all() -> None:
    for sample in PUBLISHED.samples:
        fits(sample.value, sample.kind, f"the {sample.page}'s {sample.kind}")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Pairing", {"channel": "telegram", "code": "A", "status": "perhaps", "output": ""}),
        ("Connection", {"channel": "telegram", "status": "connected", "more": 1}),
        ("Link", {}),
        ("time", "2026-05-04T03:02:01+02:00"),
        ("id", "no-uuid"),
        ("[Link]", {"url": "http://x"}),
        ("text?", 5),
    ],
)
def test_a_value_of_another_kind_does_not_fit(kind: str, value: Any) -> None:
    with pytest.raises(Drift):
        fits(value, kind, "a test")
