"""Significance: SciPy and textbook values as referees."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from attiqa.errors import InputError
from benchmarks.significance import paired_test, pairs_needed, sign_test, wilson_interval


def test_sign_test_is_the_exact_binomial_test() -> None:
    assert sign_test(116, 84) == pytest.approx(binomtest(116, 200).pvalue)
    assert sign_test(5, 0) == pytest.approx(2 * 0.5**5)
    assert sign_test(0, 0) == 1.0


def test_wilson_interval_has_its_closed_form() -> None:
    wins, total, z = 58, 100, 1.959963984540054
    rate = wins / total
    centre = (rate + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
    assert wilson_interval(wins, total) == pytest.approx((centre - half, centre + half))


def test_wilson_interval_refuses_more_wins_than_trials() -> None:
    with pytest.raises(InputError, match="wins <= total"):
        wilson_interval(3, 2)


def test_paired_test_counts_only_pairs_on_which_the_scorers_differ() -> None:
    first, second = [1, 1, 1, 0, 1, 0.5], [0, 0, 1, 0, 0, 1]
    assert paired_test(first, second) == (3, 1, pytest.approx(binomtest(3, 4).pvalue))


def power(count: int, rate: float) -> float:
    """Chance that wins of `count` reach the two-sided 5 % level in the upper tail, by summing it out."""
    wins = np.arange(count + 1)
    significant = wins[binom.sf(wins - 1, count, 0.5) <= 0.025]
    return float(binom.pmf(significant, count, rate).sum())


@pytest.mark.parametrize("rate", [0.58, 0.7, 0.95])
def test_pairs_needed_is_the_count_from_which_power_stays(rate: float) -> None:
    needed = pairs_needed(rate)
    assert needed is not None
    assert power(needed - 1, rate) < 0.8
    assert all(power(count, rate) >= 0.8 for count in range(needed, needed + 40))


def test_a_losing_rate_needs_as_many_pairs_as_the_winning_one() -> None:
    assert pairs_needed(0.3) == pairs_needed(0.7)


def test_no_number_of_pairs_shows_a_rate_of_one_half() -> None:
    assert pairs_needed(0.5) is None


def test_a_sure_win_needs_six_pairs() -> None:
    assert pairs_needed(1.0) == 6  # 2 * 0.5**6 = 0.031 is the first below 0.05


def test_a_rate_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        pairs_needed(1.2)
