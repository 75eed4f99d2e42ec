"""The report of `scripts/canary`: what it reads, and what it says of it (pure)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from benchmarks.report import number
from chowder_local.openclaw.shortcuts import SHORTCUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.results import Measure

SHOWN = 40
"""The most lines of a list in the report."""
MESSAGE_LINES = 6
LINE_CHARS = 200


@dataclass(frozen=True)
class Failure:
    """A test that did not pass; `name` is what pytest takes."""

    name: str
    message: str
    passed_alone: bool = False
    """Whether it passed when it ran again, without another one beside it."""


@dataclass(frozen=True)
class SuiteResults:
    """The tests of a run of pytest; the skipped ones are counted by their reasons."""

    passed: frozenset[str] = frozenset()
    failures: tuple[Failure, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """What the image of a release has."""

    version: str
    node: str
    size_bytes: int
    channels: frozenset[str]
    settings: frozenset[str]
    columns: frozenset[str]
    """Tables, and `table.column`, of both of OpenClaw's databases."""
    shortcuts_off: Mapping[str, str]


def setting_paths(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of a JSON schema's properties, with dots."""
    for name, below in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path
        yield from setting_paths(below, f"{path}.")


def column_names(databases: Iterable[Mapping[str, Sequence[str]] | None]) -> frozenset[str]:
    """The tables, and `table.column` of each column."""
    return frozenset(
        name
        for tables in databases
        for table, columns in (tables or {}).items()
        for name in (table, *(f"{table}.{column}" for column in columns))
    )


def channel_names(package: bytes | None) -> frozenset[str]:
    """The channels that the package.json of an image's channels depends on."""
    named = json.loads(package or b"{}").get("dependencies", {})
    return frozenset(name.removeprefix("@openclaw/") for name in named)


def read_junit(junit: str) -> SuiteResults:
    """The results in pytest's JUnit report."""
    passed, failures, skipped = set[str](), list[Failure](), Counter[str]()
    for case in ElementTree.fromstring(junit).iter("testcase"):  # noqa: S314 - our own file
        problem = next((each for each in case if each.tag in {"failure", "error"}), None)
        name = f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"
        if problem is not None:
            failures.append(Failure(name, problem.get("message") or ""))
        elif (skip := case.find("skipped")) is not None:
            skipped[skip.get("message") or ""] += 1
        else:
            passed.add(name)
    return SuiteResults(frozenset(passed), tuple(failures), dict(skipped))


def render(
    default: Release,
    tried: Release,
    results: SuiteResults,
    measures: Sequence[Measure] | str,
    parts: Mapping[str, float],
) -> list[str]:
    """The report's lines. `measures` may be the reason why there are none; `parts` are seconds."""
    return [
        f"# OpenClaw {tried.version}, beside {default.version}",
        "",
        _verdict(tried, results),
        "",
        *_overview(default, tried),
        *_failures(tried, results),
        *_shortcuts(default, tried),
        *differences("Channels", default.channels, tried.channels),
        *differences("Configuration", default.settings, tried.settings),
        *differences("Tables of both databases", default.columns, tried.columns),
        *_measured(default, tried, measures),
        "## Time that this took",
        "",
        *(f"- {name}: {took_s / 60:.1f} minutes" for name, took_s in parts.items()),
    ]


def differences(title: str, before: frozenset[str], after: frozenset[str]) -> list[str]:
    """Lines about what one set of dotted names has and the other has not.

    What is below a name that is listed is counted only.
    """
    lines = [f"## {title}", ""]
    for word, names in (("New", after - before), ("Gone", before - after)):
        below = Counter(top for name in names if (top := _top(name, names)) != name)
        tops = sorted(name for name in names if _top(name, names) == name)
        for name in tops[:SHOWN]:
            lines.append(f"- {word}: `{name}`" + (f", with {below[name]} below" * (name in below)))
        if (more := len(tops) - SHOWN) > 0:
            lines.append(f"- {word}: {more} more")
    return [*lines, *([] if before != after else ["No difference."]), ""]


def _top(name: str, names: frozenset[str]) -> str:
    """The shortest of the names that the name is, or is below."""
    parts = name.split(".")
    paths = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next(path for path in paths if path in names)


def _verdict(tried: Release, results: SuiteResults) -> str:
    broken = [each for each in results.failures if not each.passed_alone]
    if broken:
        return f"**{len(broken)} of {_count(results)} tests fail**, so agents would lose something."
    return (
        f"**Nothing broke** in {_count(results)} tests. To make it the default: "
        f"`scripts/canary {tried.version} --lock`, then `OPENCLAW_VERSION={tried.version}` in "
        "`docker/sandbox/versions.env`."
    )


def _count(results: SuiteResults) -> int:
    return len(results.passed) + len(results.failures)


def _overview(default: Release, tried: Release) -> list[str]:
    both = (default, tried)
    rows: list[Sequence[object]] = [
        ("", *(each.version for each in both)),
        ("---",) * 3,
        ("Node", *(each.node for each in both)),
        ("image", *(number(each.size_bytes / 1e6, "MB") for each in both)),
        ("shortcuts that are off", *(len(each.shortcuts_off) for each in both)),
    ]
    return [*_table(rows), ""]


def _failures(tried: Release, results: SuiteResults) -> list[str]:
    lines = [f"## Tests that failed ({len(results.failures)})", ""]
    if results.failures:
        lines += [f"One alone: `CHOWDER_OPENCLAW_VERSION={tried.version} scripts/test NAME`.", ""]
    for each in results.failures:
        verdict = "passed when it ran again" if each.passed_alone else "did not pass again"
        shown = [line[:LINE_CHARS] for line in each.message.split("\n")[:MESSAGE_LINES]]
        lines += [f"- `{each.name}` ({verdict})", "", *(f"      {line}" for line in shown), ""]
    for reason, count in results.skipped.items():
        lines.append(f"- skipped: {count}: {reason}")
    return [*lines, *([""] if results.skipped else [])]


def _shortcuts(default: Release, tried: Release) -> list[str]:
    lines = ["## Shortcuts that are off", ""]
    plain_ways = {each.name: each.plain_way for each in SHORTCUTS}
    for name, reason in tried.shortcuts_off.items():
        both = f" (with {default.version}, too)" if name in default.shortcuts_off else ""
        lines.append(f"- {name}{both}: {plain_ways[name]}; {reason[:LINE_CHARS]}")
    return [*lines, *([] if tried.shortcuts_off else ["None."]), ""]


def _measured(default: Release, tried: Release, measures: Sequence[Measure] | str) -> list[str]:
    lines = ["## Measured, agents of both in turn", ""]
    if isinstance(measures, str):
        return [*lines, f"Not measured: {measures}.", ""]
    rows: list[Sequence[object]] = [
        ("median", default.version, tried.version, "ratio"),
        ("---",) * 4,
    ]
    for each in measures:
        peer = "" if each.peer is None else number(each.peer, each.unit)
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        rows.append((f"{each.what}, of {each.rounds}", peer, number(each.ours, each.unit), ratio))
    return [*lines, *_table(rows), ""]


def _table(rows: Iterable[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in rows]
