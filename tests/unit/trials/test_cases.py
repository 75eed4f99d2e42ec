"""The files of cases, and what their checks find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chowder_local.core.errors.process import ApiRefused, SettingsInvalid
from chowder_local.trials.cases import Check, Evidence, NoJudgement, read_cases
from chowder_local.trials.spending import Spending

CASES = """
trials: 20
at_least: 0.9
cases:
  - name: stock
    state: {instance: desk}
    message: How many are left?
    checks: [{contains: "3"}]
  - name: order
    messages: [Hi, Order 7]
    trials: 5
    at_least: 1
    checks: [{tool_called: {name: exec}}]
"""


def read(folder: Path, text: str) -> Any:
    (folder / "cases.yaml").write_text(text)
    return read_cases(folder / "cases.yaml")


def test_a_case_has_the_plan_of_its_file_or_its_own(tmp_path: Path) -> None:
    cases = read(tmp_path, CASES)
    plans = [cases.plan(each) for each in cases.cases]
    assert [(each.trials, each.at_least) for each in plans] == [(20, 0.9), (5, 1.0)]
    assert [each.all_messages for each in cases.cases] == [
        ["How many are left?"],
        ["Hi", "Order 7"],
    ]


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        (
            "contains:",
            "contians:",
            "line 8, cases[0].checks[0].contians: No such",
        ),
        ('{contains: "3"}', '{contains: "3", regex: a}', "line 8, cases[0].checks[0]: A check"),
        ('{contains: "3"}', "{regex: '('}", "It should be a regular expression"),
        ('{contains: "3"}', "{json_schema: {type: no}}", "It should be a JSON schema"),
        ("{instance: desk}", "{}", "line 6, cases[0].state: Name either an instance or a snap"),
        ("{instance: desk}", "{seed: a.yaml, snapshot: b}", "Name the instance of the seed"),
        ("messages: [Hi, Order 7]", "session: a", "Write a message, or messages"),
        ("name: order", "name: stock", "Each case needs a name of its own"),
        ("trials: 5", "trials: 0", "line 11, cases[1].trials: Input should be greater"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(
    tmp_path: Path, wrong: str, right: str, words: str
) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        read(tmp_path, CASES.replace(wrong, right))
    assert words in str(raised.value)


FILES = {"workspace/notes.md": "The tide turns at noon.\n"}
JUDGEMENTS = {"kind": "PASS\nIt is.", "strict": "**FAIL**\nIt is not polite.", "vague": "Perhaps."}


def read_file(path: str) -> str:
    if path == "workspace/hidden.md":
        raise ApiRefused(502, "The sandbox does not answer.")
    if path not in FILES:
        raise ApiRefused(404, f"No such file: {path}")
    return FILES[path]


def judge(model: str, text: str) -> str:
    assert "Is it polite?" in text
    assert "How many?" in text
    assert "There are 3." in text
    return JUDGEMENTS[model]


def evidence(answer: str = "There are 3.") -> Evidence:
    calls: list[dict[str, Any]] = [
        {"name": "exec", "arguments": {"command": "ls", "timeout": [1]}},
        {"name": "read", "arguments": None},
    ]
    spent = Spending(0.02, 900, model_calls=3, turns=2)
    return Evidence(["How many?"], answer, calls, spent, read_file, judge)


HOLDING = [
    {"contains": "are 3"},
    {"regex": r"\b\d\b"},
    {"tool_called": {"name": "exec", "arguments": {"command": "ls", "timeout": [1]}}},
    {"tool_called": {"name": "read"}},
    {"file": {"path": "workspace/notes.md", "contains": "noon", "regex": "^The"}},
    {"file": {"path": "workspace/notes.md", "equals": "The tide turns at noon.\n"}},
    {"cost_usd_at_most": 0.02},
    {"turns_at_most": 2},
    {"model_calls_at_most": 3},
    {"judge": {"model": "kind", "question": "Is it polite?"}},
]
FAILING = [
    ({"contains": "4"}, "the answer does not contain '4'"),
    ({"regex": r"^\d"}, "is not in the answer"),
    ({"json_schema": {"type": "object"}}, "the answer is not JSON"),
    ({"tool_called": {"name": "exec", "arguments": {"command": "rm"}}}, "was called with [{"),
    ({"tool_called": {"name": "write"}}, "the tool write was not called"),
    ({"file": {"path": "workspace/other.md"}}, "cannot be read: No such file"),
    ({"file": {"path": "workspace/notes.md", "contains": "moon"}}, "does not contain 'moon'"),
    ({"file": {"path": "workspace/notes.md", "equals": ""}}, "has other content: 'The tide"),
    ({"file": {"path": "workspace/notes.md", "regex": "moon"}}, "is not in the file"),
    ({"cost_usd_at_most": 0.01}, "it cost 0.020000 USD, more than 0.01"),
    ({"turns_at_most": 1}, "it took 2 turns, more than 1"),
    ({"model_calls_at_most": 2}, "it took 3 model calls, more than 2"),
    ({"judge": {"model": "strict", "question": "Is it polite?"}}, "judges: It is not polite."),
]


@pytest.mark.parametrize("check", HOLDING)
def test_a_check_that_holds_has_no_problem(check: dict[str, Any]) -> None:
    assert evidence().problem(Check.model_validate(check)) is None


@pytest.mark.parametrize(("check", "words"), FAILING)
def test_a_check_that_does_not_hold_says_why(check: dict[str, Any], words: str) -> None:
    assert words in str(evidence().problem(Check.model_validate(check)))


def test_an_answer_in_json_is_compared_with_a_schema() -> None:
    schema = {"type": "object", "required": ["city"]}
    check = Check.model_validate({"json_schema": schema})
    assert evidence('{"city": "Paris"}').problem(check) is None
    assert "required" in str(evidence("{}").problem(check))


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([{"contains": "4"}], "does not contain '4'"),
        ([{"judge": {"model": "strict", "question": "Is it polite?"}}], "strict judges"),
    ],
)
def test_a_judge_without_a_verdict_decides_nothing_and_a_check_that_fails_does(
    checks: list[dict[str, Any]], words: str
) -> None:
    vague = {"judge": {"model": "vague", "question": "Is it polite?"}}
    with pytest.raises(NoJudgement, match="wrote neither PASS nor FAIL"):
        evidence().problems([Check.model_validate(each) for each in [vague, *HOLDING]])
    (problem,) = evidence().problems([Check.model_validate(each) for each in [vague, *checks]])
    assert words in problem


def test_a_file_that_the_server_cannot_read_decides_nothing() -> None:
    with pytest.raises(ApiRefused, match="does not answer"):
        evidence().problems([Check.model_validate({"file": {"path": "workspace/hidden.md"}})])


def test_the_guides_file_of_cases_is_one(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/trials.md").read_text()
    text = guide.partition('```yaml title="cases.yaml"\n')[2].partition("```")[0]
    assert len(read(tmp_path, text).cases) == 2
