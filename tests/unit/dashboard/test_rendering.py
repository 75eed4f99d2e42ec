"""Filters and escaping of templates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from jinja2 import UndefinedError

from chowder_local.dashboard.rendering import (
    Assets,
    Rendering,
    ago,
    day,
    iso,
    money,
    number,
    ordinal,
)

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
def test_the_age_of_a_time_is_rounded_down_to_a_unit(passed: timedelta, words: str) -> None:
    assert ago(NOW - passed, NOW) == words


def test_the_time_for_the_pages_script_is_in_utc() -> None:
    assert iso(NOW.astimezone(timezone(timedelta(hours=9)))) == "2026-05-04T12:00:00+00:00"


def test_a_day_is_in_utc() -> None:
    late = datetime(2026, 5, 4, 23, tzinfo=timezone(timedelta(hours=-9)))
    assert (day(late), day(date(2026, 5, 4))) == ("5 May 2026", "4 May 2026")


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_ordinals_have_their_endings(count: int, words: str) -> None:
    assert ordinal(count) == words


@pytest.mark.parametrize(
    ("usd", "words"),
    [
        (0, "$0.00"),
        (0.00001, "under $0.0001"),
        (0.0123, "$0.0123"),
        (1.5, "$1.50"),
        (12345, "$12,345.00"),
    ],
)
def test_small_sums_have_more_digits(usd: float, words: str) -> None:
    assert money(usd) == words
    assert number(12345.0) == "12,345"


def test_values_are_escaped_and_a_missing_one_is_an_error() -> None:
    rendering = Rendering(Assets())
    html = rendering.html("error.html", title="<b>", text='"<i>"', number=404)
    assert "&lt;b&gt;" in html
    assert "&#34;&lt;i&gt;&#34;" in html
    with pytest.raises(UndefinedError):
        rendering.html("error.html", title="x")
