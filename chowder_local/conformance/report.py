"""The drift report of a run, as Markdown and as JSON (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.conformance import published

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from chowder_local.conformance.drift import Finding
    from chowder_local.conformance.run import Run

HEADERS = ("operation", "expected", "got", "entry", "test")
NOT_KNOWN = "none"


def as_json(run: Run, base_url: str, target: str, now: datetime) -> dict[str, Any]:
    """The report's content for programs."""
    return {
        "base_url": base_url,
        "judged_as": target,
        "at": now.isoformat(timespec="seconds"),
        "passed": run.count("passed"),
        "failed": run.count("failed"),
        "skipped": [each for each in run.tests if each["outcome"] == "skipped"],
        "drifts": [each.as_json() for each in run.findings],
        "calls_without_success": _without_success(run),
    }


def as_markdown(content: dict[str, Any], findings: Sequence[Finding]) -> str:
    """The same for people; `content` is that of `as_json`."""
    known = [each for each in findings if each.entry is not None]
    unexplained = [each for each in findings if each.entry is None]
    skipped = content["skipped"]
    parts = [
        "# Drift report",
        f"{content['base_url']}, judged as {content['judged_as']}, at {content['at']}: "
        f"{content['passed']} tests passed, {content['failed']} failed, {len(skipped)} skipped.",
        f"## Drifts that no entry of the differences explains ({len(unexplained)})",
        _table(unexplained),
        f"## Known drifts ({len(known)})",
        _table(known),
        f"## Not judged ({len(skipped) + len(content['calls_without_success'])})",
        "\n".join(
            [f"- {each['test']}: {each['reason']}" for each in skipped]
            + [f"- `{each}` has not succeeded." for each in content["calls_without_success"]]
        )
        or "Everything was judged.",
    ]
    return "\n\n".join(parts) + "\n"


def _without_success(run: Run) -> list[str]:
    return sorted(set(published.read().calls) - set(run.operations))


def _table(findings: Iterable[Finding]) -> str:
    rows = [
        (f"`{each.operation}`", each.expected, each.observed, each.entry or NOT_KNOWN, each.test)
        for each in findings
    ]
    if not rows:
        return "None."
    lines = [_line(HEADERS), _line(["---"] * len(HEADERS)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
