"""What is made of rounds: turns that are fair, and figures that are what they are called."""

from __future__ import annotations

import pytest

from benchmarks.samples import (
    Sample,
    alternately,
    column,
    mean,
    middle,
    p99,
    paired_difference,
)


class Subjects:
    """Three subjects that note when it was their turn."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def measured(self, name: str) -> Sample:
        self.turns.append(name)
        return {"turn": float(len(self.turns))}

    def rounds(self, rounds: int, warm_up: int) -> dict[str, list[Sample]]:
        return alternately(
            {name: lambda name=name: self.measured(name) for name in "abc"},  # type: ignore[misc]
            rounds,
            warm_up,
        )


def test_every_subject_has_its_turn_in_every_round_and_each_comes_first_in_turn() -> None:
    subjects = Subjects()
    taken = subjects.rounds(3, 0)
    assert ["".join(subjects.turns[n : n + 3]) for n in (0, 3, 6)] == ["abc", "bca", "cab"]
    assert {name: len(samples) for name, samples in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_warm_up_rounds_are_thrown_away() -> None:
    subjects = Subjects()
    taken = subjects.rounds(1, 2)
    assert len(subjects.turns) == 9
    assert all(sample["turn"] > 6 for samples in taken.values() for sample in samples)


def test_what_goes_on_is_told_before_it_does() -> None:
    told: list[str] = []
    alternately({"ours": dict, "theirs": dict}, 1, 1, told.append)
    assert told == [
        "warm-up round: theirs",
        "warm-up round: ours",
        "round 1 of 1: ours",
        "round 1 of 1: theirs",
    ]


def test_a_column_keeps_the_order_of_the_rounds() -> None:
    assert column([{"ms": 3.0, "s": 0.0}, {"ms": 1.0, "s": 0.0}], "ms") == [3.0, 1.0]


def test_the_middle_of_an_even_number_of_values_is_between_two() -> None:
    assert middle([4.0, 1.0, 2.0, 100.0]) == 3.0


def test_the_mean_counts_every_value() -> None:
    assert mean([0.0, 0.0, 10.0, 10.0]) == 5.0


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1.0), (50, 50.0), (100, 99.0), (101, 100.0), (1000, 990.0)]
)
def test_p99_is_a_value_that_at_least_99_of_100_do_not_exceed(count: int, expected: float) -> None:
    assert p99([float(value) for value in range(count, 0, -1)]) == expected


def test_what_drifts_with_the_rounds_cancels_in_paired_differences() -> None:
    peers = [10.0, 20.0, 30.0, 1000.0]
    assert paired_difference([value + 2 for value in peers], peers) == 2.0


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])
