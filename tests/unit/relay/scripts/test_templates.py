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
        ("{# note #}{{ groups.items | default('-') }}", "-"),
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
    ("a\n{{ nobody }}", "line 2: 'nobody' is not supported"),
    ("{{ text", "unexpected end of template"),
    ("{{ }}", "Expected an expression"),
    ("{{ 'text }}", "unexpected char"),
    ("{{ 1 }}", "Const is not supported"),
    ("{{ text.__class__ }}", "Getattr is not supported"),
    ("{{ text + 1 }}", "Add is not supported"),
    ("{{ groups }}", "'groups' is not supported"),
    ("{{ groups[text] }}", "Getitem is not supported"),
    ("{{ text | center(99) }}", "'center' is not a known filter"),
    ("{{ text | default(5) }}", "has another form"),
    ("{{ text | upper(1) }}", "has another form"),
    ("{{ text" + " | upper" * 6 + " }}", "too many filters"),
    ("a {% include 'file' %}", "Include is not supported"),
    ("{{ " + "(" * 9000, "nested too deeply"),
    ("{{ " + "9" * 9000 + " }}", "Exceeds the limit"),
    ("x" * (TEMPLATE_MAX + 1), "more than 20,000 characters"),
]


def test_an_invalid_template_is_reported_with_line_and_reason() -> None:
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
