"""Templates of replies."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.relay.scripts.expressions import (
    RENDERED_MAX,
    TEMPLATE_MAX,
    TemplateInvalid,
    check,
    render,
)
from tests.scripted.refusals import refusal

VALUES: dict[str, Any] = {
    "text": " Hi \n",
    "turn": 2,
    "session": None,
    "result": 'say "ü"',
    "groups": {0: "order 7", 1: "7", "number": "7", 2: None},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("Turn {{turn}}.\n", "Turn 2.\n"),
        ("{{ text | trim | upper }}{{ text|lower }}", "HI hi \n"),
        (
            "{{ groups[1] }} {{ groups.number }} {{ groups['number'] }} {{ groups[0] }}",
            "7 7 7 order 7",
        ),
        ("{{ session }} {{ session | default('main') }}", "None main"),
        ('{{ groups[2] | default("-") }}{{ groups[9] | default("none") | upper }}', "-NONE"),
        (
            '{"said": {{ result | tojson }}, "n": {"m": {{ turn | tojson }}}}',
            '{"said": "say \\"ü\\"", "n": {"m": 2}}',
        ),
        (
            "{{ result | length }} {{ 'a {{ b }} {% c %}' | capitalize }} }}",
            "7 A {{ b }} {% c %} }}",
        ),
    ],
)
def test_a_template_renders_its_values(template: str, text: str) -> None:
    assert render(check(template), VALUES) == text


NO_TEMPLATES = [
    ("a {{ nobody }}", "at character 11: 'nobody' is not a known name"),
    ("{{ text", "it ends within braces"),
    ("{{ }}", "'}}' is not a known name"),
    ("{{ 'text }}", "this is not a name or filter"),
    ("{{ 1 // 0 }}", "'1' is not a known name"),
    ("{{ text.__class__ }}", "'.' is not expected here"),
    ("{{ text + 1 }}", "this is not a name or filter"),
    ("{{ groups }}", "groups needs a number or a name"),
    ("{{ groups[text] }}", "groups needs a number or a name"),
    ("{{ text | center(99) }}", "'center' is not a known filter"),
    ("{{ text | default(5) }}", "default takes a text in quotes"),
    ("{{ text" + " | upper" * 6 + " }}", "too many filters"),
    ("a {% include 'file' %}", "at character 2: {% is not supported"),
    ("{# note #}", "{# is not supported"),
    ("x" * (TEMPLATE_MAX + 1), "more than 20,000 characters"),
]


def test_an_invalid_template_is_reported_with_place_and_reason() -> None:
    errors = [
        (template, words, refusal(TemplateInvalid, check, template))
        for template, words in NO_TEMPLATES
    ]
    assert not [
        each
        for each in errors
        if "is not a valid template" not in each[2] or each[1] not in each[2]
    ]


@pytest.mark.parametrize(
    ("template", "text", "words"),
    [
        ("{{ groups[7] }}", "", "there is no group 7"),
        ("{{ text }}" * 10, "x" * (RENDERED_MAX // 9), "more than 1,000,000 characters"),
        ("{{ text | trim }}", " " * (RENDERED_MAX + 1), "more than 1,000,000 characters"),
    ],
)
def test_rendering_is_bounded_and_fails_for_missing_groups(
    template: str, text: str, words: str
) -> None:
    with pytest.raises(TemplateInvalid, match="fails") as raised:
        render(check(template), VALUES | {"text": text})
    assert words in str(raised.value)
