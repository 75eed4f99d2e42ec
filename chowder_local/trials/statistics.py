"""What a number of trials says about a pass rate (pure).

The interval is Wilson's score interval: E. B. Wilson, "Probable inference, the law of succession,
and statistical inference", Journal of the American Statistical Association 22 (1927), 209-212. Who
looks after each trial and stops at the first interval that decides errs more often than one
interval does: P. Armitage, C. K. McPherson, B. C. Rowe, "Repeated significance tests on
accumulating data", Journal of the Royal Statistical Society A 132 (1969), 235-244. So the intervals
of a plan are as much wider as all looks together need, at one width for all of them: S. J. Pocock,
"Group sequential methods in the design and analysis of clinical trials", Biometrika 64 (1977),
191-199. Their error is counted exactly, by the distribution of the passes after each trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import cached_property, lru_cache
from statistics import NormalDist

MAX_TRIALS = 1_000
FIRST_LOOK = 10
"""After fewer trials no interval decides: a single trial by chance would need it very wide."""
WIDEST_Z = 10.0
WIDTH_STEPS = 20
ROUNDING = 1e-9


class Verdict(StrEnum):
    """What trials say together."""

    PASSED = auto()
    FAILED = auto()
    UNDECIDED = auto()
    """Trials without an outcome, such as those that a budget ended, could change it."""


def wilson(passed: int, counted: int, z: float) -> tuple[float, float]:
    """Wilson's interval of a pass rate; `z` is the quantile of the normal distribution."""
    if counted == 0:
        return 0.0, 1.0
    rate, weight = passed / counted, z * z / counted
    middle = rate + weight / 2
    half = z * math.sqrt((rate * (1 - rate) + weight / 4) / counted)
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    # At the ends the formula is exact, and only rounding is not.
    return (0.0 if passed == 0 else low), (1.0 if passed == counted else high)


@dataclass(frozen=True)
class ErrorRates:
    """How a plan ends at a true pass rate, exactly."""

    passed: float
    """The probability of the verdict `passed`; of `failed`, it is the rest."""
    disproved: float
    """The probability that an interval excludes the demanded rate as too high."""
    proved: float
    """The probability that an interval lies above the demanded rate."""
    trials: float
    """The mean number of trials."""


@dataclass(frozen=True)
class Plan:
    """At most so many trials, of which the share `at_least` has to pass.

    Raises ValueError if a number is out of its range.
    """

    trials: int
    at_least: float
    confidence: float = 0.95
    is_whole: bool = False
    """Whether all trials are run, and their share alone decides: what a baseline has to compare.
    Trials that end early pass more or less often than they would have."""

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= MAX_TRIALS:
            raise ValueError(f"trials should be 1 to {MAX_TRIALS}, not {self.trials}")
        if not 0 < self.at_least <= 1:
            raise ValueError(f"at_least should be above 0 and at most 1, not {self.at_least}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence should be 0.5 to below 1, not {self.confidence}")

    @property
    def needed(self) -> int:
        """How many of all trials have to pass."""
        return math.ceil(self.at_least * self.trials - ROUNDING)

    @cached_property
    def z(self) -> float:
        """The width of the plan's intervals."""
        return _width(self.trials, self.at_least, self.confidence)

    def interval(self, passed: int, counted: int) -> tuple[float, float]:
        """The interval of the pass rate, which holds for all looks together."""
        return wilson(passed, counted, self.z)

    def verdict(self, passed: int, failed: int, undecided: int = 0) -> Verdict | None:
        """The verdict, as soon as it is certain.

        The interval decides, or that the trials that are left cannot change whether the share of
        all trials is reached.
        """
        if self.is_whole and passed + failed + undecided < self.trials:
            return None
        if not self.is_whole and (side := self.side(passed, failed)) is not None:
            return side
        if passed >= self.needed:
            return Verdict.PASSED
        if failed > self.trials - self.needed:
            return Verdict.FAILED
        return Verdict.UNDECIDED if passed + failed + undecided == self.trials else None

    def side(self, passed: int, failed: int) -> Verdict | None:
        """On which side of the demanded rate the interval lies, if it lies on one."""
        return _side(passed, passed + failed, self.at_least, self.z)

    def trials_to_prove(self, rate: float) -> int | None:
        """How many trials at this pass rate would prove that it is on its side of the demanded one.

        None if it is the demanded rate, which no number of trials tells from a lower one.
        """
        distance, demanded = abs(rate - self.at_least), self.at_least
        if distance < ROUNDING:
            return None
        # Where Wilson's bound is the demanded rate.
        number = self.z**2 * demanded * (1 - demanded) / distance**2
        return max(FIRST_LOOK, math.ceil(number - ROUNDING))

    def error_rates(self, pass_rate: float) -> ErrorRates:
        """How the plan ends if trials pass at this rate."""
        going, passed, proved, disproved, mean = {0: 1.0}, 0.0, 0.0, 0.0, 0.0
        for count in range(1, self.trials + 1):
            mean += sum(going.values())
            going = _step(going, pass_rate)
            for passes in list(going):
                verdict = self.verdict(passes, count - passes)
                if verdict is None:
                    continue
                probability = going.pop(passes)
                side = self.side(passes, count - passes)
                passed += probability if verdict is Verdict.PASSED else 0
                proved += probability if side is Verdict.PASSED else 0
                disproved += probability if side is Verdict.FAILED else 0
        return ErrorRates(passed, disproved, proved, mean)


def _side(passed: int, counted: int, at_least: float, z: float) -> Verdict | None:
    if counted < FIRST_LOOK:
        return None
    low, high = wilson(passed, counted, z)
    if low >= at_least:
        return Verdict.PASSED
    return Verdict.FAILED if high < at_least else None


def _step(going: dict[int, float], pass_rate: float) -> dict[int, float]:
    """The probabilities of the numbers of passes after one more trial."""
    after: dict[int, float] = {}
    for passes, probability in going.items():
        after[passes] = after.get(passes, 0.0) + probability * (1 - pass_rate)
        after[passes + 1] = after.get(passes + 1, 0.0) + probability * pass_rate
    return after


@lru_cache
def _width(trials: int, at_least: float, confidence: float) -> float:
    """The least width at which all looks together err with 1 - `confidence` at most, each way."""
    allowed = 1 - confidence
    narrow, wide = NormalDist().inv_cdf((1 + confidence) / 2), WIDEST_Z
    if max(_errors(trials, at_least, narrow)) <= allowed:
        return narrow
    for _ in range(WIDTH_STEPS):
        middle = (narrow + wide) / 2
        if max(_errors(trials, at_least, middle)) <= allowed:
            wide = middle
        else:
            narrow = middle
    return wide


def _errors(trials: int, at_least: float, z: float) -> tuple[float, float]:
    """How often intervals decide for and against a rate that is exactly the demanded one."""
    going, sides = {0: 1.0}, {Verdict.PASSED: 0.0, Verdict.FAILED: 0.0}
    for count in range(1, trials + 1):
        going = _step(going, at_least)
        for passes in list(going):
            if (side := _side(passes, count, at_least, z)) is not None:
                sides[side] += going.pop(passes)
    return sides[Verdict.PASSED], sides[Verdict.FAILED]


def two_proportions(
    passed_a: int, counted_a: int, passed_b: int, counted_b: int, chosen_a: range | None = None
) -> float:
    """How likely a share as much lower as B's, or more, is by chance if both rates are the same.

    If A was chosen because its passes are in a range, `chosen_a`, that is a condition as well:
    without it, most B look worse than an A that had to pass.

    Fisher's exact test, one-sided: R. A. Fisher, "On the interpretation of chi-squared from
    contingency tables, and the calculation of P", Journal of the Royal Statistical Society 85
    (1922), 87-94. Unlike the test with the normal distribution it is exact for few trials.
    """
    passed = passed_a + passed_b
    chosen = range(counted_a + 1) if chosen_a is None else chosen_a
    ways = {
        each: math.comb(counted_a, each) * math.comb(counted_b, passed - each)
        for each in chosen
        if passed - counted_b <= each <= passed
    }
    return sum(count for each, count in ways.items() if each >= passed_a) / sum(ways.values())
