"""What templates may count on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from jinja2 import UndefinedError

from chowder_local.web.dashboard.assets import Assets
from chowder_local.web.dashboard.rendering import Rendering, ago, iso

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (timedelta(), "0 s"),
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 d"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_how_long_ago_something_was(passed: timedelta, words: str) -> None:
    assert ago(NOW - passed, NOW) == words


def test_a_moment_for_the_pages_script_is_in_utc() -> None:
    assert iso(NOW.astimezone(timezone(timedelta(hours=9)))) == "2026-05-04T12:00:00+00:00"


def test_values_are_escaped_and_none_may_be_missing() -> None:
    rendering = Rendering(Assets())
    html = rendering.html("notice.html", title="<b>", words='"<i>"')
    assert "&lt;b&gt;" in html
    assert "&#34;&lt;i&gt;&#34;" in html
    with pytest.raises(UndefinedError):
        rendering.html("notice.html", title="x")
