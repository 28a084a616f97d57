"""Significance of wins and losses: sign test, exact paired test, intervals, and how many pairs it takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest

from attiqa.errors import InputError


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value of `wins` against `losses` under equal chances; 1 where there are none."""
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def wilson_interval(wins: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate."""
    if total < 1 or not 0 <= wins <= total:
        raise InputError(
            f"a rate needs 0 <= wins <= total and a total of 1 or more; these are {wins} and {total}."
        )
    interval = binomtest(wins, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def paired_test(first: ArrayLike, second: ArrayLike) -> tuple[int, int, float]:
    """McNemar's exact test between two scorers on the same pairs.

    Args:
        first: ``(N,)`` 1 where the scorer is right, 0 where wrong, 0.5 where it sees a tie.
        second: the same for the other scorer.

    Returns:
        pairs on which the first is better, on which the second is better, two-sided p-value.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    better, worse = int((one > other).sum()), int((one < other).sum())
    return better, worse, sign_test(better, worse)


def pairs_needed(rate: float, alpha: float = 0.05, power: float = 0.8, most: int = 100_000) -> int | None:
    """Comparisons after which a true win rate of `rate` shows in a two-sided sign test.

    Args:
        rate: the assumed true rate, in [0, 1].
        alpha: level of the test.
        power: wanted chance that the test finds it.
        most: give up beyond this many.

    Returns:
        the least number from which on the exact power stays at `power` or above; None where it is above
        `most`, which is always so for a rate of one half.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"a win rate lies between 0 and 1; it is {rate}.")
    counts = np.unique(np.rint(np.geomspace(1, most, 4000)).astype(np.int64))
    enough = _power(counts, max(rate, 1 - rate), alpha) >= power
    if not enough[-1]:
        return None
    # power is a saw-tooth: look closely from the last count of the coarse grid that was not enough
    start = int(counts[np.flatnonzero(~enough)[-1]]) if not enough.all() else 1
    fine = np.arange(start, min(most, 2 * start + 64) + 1)
    below = np.flatnonzero(_power(fine, max(rate, 1 - rate), alpha) < power)
    return int(fine[below[-1] + 1]) if below.size else int(fine[0])


def _power(counts: np.ndarray, rate: float, alpha: float) -> np.ndarray:
    """Chance that the upper tail of the sign test is hit; the lower tail's share is left out, as is usual."""
    critical = binom.isf(alpha / 2, counts, 0.5) + 1  # least number of wins with a tail of at most alpha / 2
    return binom.sf(critical - 1, counts, rate)
