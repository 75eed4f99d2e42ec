"""The lines that say what a person waits for."""

from queue import SimpleQueue

from chowder_local.core.wording import progress_lines


def test_what_ends_within_a_moment_needs_no_word() -> None:
    lines: list[str] = []
    with progress_lines(lines.append, "boots", after_s=60) as update:
        update("runs")
    assert lines == []


def test_after_a_moment_the_state_at_that_time_and_each_new_one_are_written() -> None:
    lines: SimpleQueue[str] = SimpleQueue()
    with progress_lines(lines.put, "boots", after_s=0.01) as update:
        first = lines.get(timeout=10)
        for state in ("boots", "runs", "runs"):
            update(state)
    assert (first, lines.get_nowait(), lines.empty()) == ("boots", "runs", True)
