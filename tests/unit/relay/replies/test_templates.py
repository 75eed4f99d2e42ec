"""Replies that are made of what was asked."""

import pytest

from chowder_local.relay.replies.templates import TemplateInvalid, checked, rendered


def test_a_template_says_what_it_is_given() -> None:
    assert rendered("{{ text | upper }} ({{ turn }})\n", {"text": "hi", "turn": 2}) == "HI (2)\n"


@pytest.mark.parametrize(
    "template",
    [
        "{{ nobody }}",
        "{{ groups[7] }}",
        "{{ 1 // 0 }}",
        "{{ text.__class__.__mro__ }}",
        "{{ text + 1 }}",
        "{% include 'file' %}",
    ],
)
def test_what_a_template_cannot_do_is_told(template: str) -> None:
    assert checked(template) == template
    with pytest.raises(TemplateInvalid, match="fails"):
        rendered(template, {"text": "hi", "groups": []})


def test_what_is_no_template_is_told() -> None:
    with pytest.raises(TemplateInvalid, match="is no template"):
        checked("{% if %}")
