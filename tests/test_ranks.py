"""Thousands of rank correlations at once against SciPy, one by one: ties, near ties, extremes, bad values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from attiqa.errors import InputError
from attiqa.ranks import spearman_differences, spearman_matrix


def _by_scipy(rows: NDArray, targets: NDArray) -> NDArray[np.float64]:
    return np.array(
        [np.nan if (row == row[0]).all() else spearmanr(row, targets).statistic for row in rows],
        dtype=np.float64,
    )


@pytest.mark.parametrize("count", [2, 3, 6, 33, 1000, 7000])
@pytest.mark.parametrize("tied_targets", [False, True])
def test_float32_rows_rank_as_scipy_ranks_them(count: int, tied_targets: bool) -> None:
    random = np.random.default_rng(count)
    targets = np.arange(count) // (3 if tied_targets and count > 3 else 1)
    rows = random.normal(0, 0.03, (12, count)).astype(np.float32)
    rows[1] = np.round(rows[1], 2)  # heavy ties
    rows[2, : count // 2] = rows[2, 0]
    rows[3, -1] = rows[3, 0]  # a single tie
    rows[4] = 0.5  # constant
    rows[5] = random.permutation(targets)
    for chosen in (slice(None), [0, 3, 5, 6, 7]):  # with the tied and constant rows, and without
        np.testing.assert_allclose(
            spearman_matrix(rows[chosen], targets), _by_scipy(rows[chosen], targets), atol=1e-12
        )


@pytest.mark.parametrize("close", [0, 1, 3, 40, 399])
def test_values_far_closer_than_the_range_keep_their_exact_order(close: int) -> None:
    """Some values differ by their last bit only beside an outlier: rounding alone would tie them."""
    random = np.random.default_rng(close)
    row = random.normal(0, 1, 400).astype(np.float32)
    row[0] = 1e4
    row[1 : close + 1] = np.float32(0.25) + np.spacing(np.float32(0.25)) * random.permutation(close)
    row[5:8] = row[5]  # and some do tie
    targets = np.round(row + random.normal(0, 1, 400), 1)
    got = spearman_matrix(np.stack([row, -row]), targets)
    np.testing.assert_allclose(got, _by_scipy(np.stack([row, -row]), targets), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-45, 1e-39, 1e-30, 1.0, 3e38])
def test_the_whole_range_of_float32_is_ranked(scale: float) -> None:
    random = np.random.default_rng(0)
    rows = (scale * random.uniform(-1, 1, (3, 50))).astype(np.float32)
    rows[0, ::5] = -0.0
    rows[0, 1::5] = 0.0  # equal to -0
    targets = random.normal(size=50)
    np.testing.assert_allclose(spearman_matrix(rows, targets), _by_scipy(rows, targets), atol=1e-12)


@pytest.mark.parametrize("count", [40, 1000])
def test_differences_of_all_pairs_are_those_of_a_loop(count: int) -> None:
    random = np.random.default_rng(1)
    high, low = (random.normal(0.25, 0.02, (n, count)).astype(np.float32) for n in (7, 5))
    high[2] = low[1]  # a constant difference
    high[3, : count // 2] = low[0, : count // 2]
    targets = random.integers(1, 6, count)
    got = spearman_differences(high, low, targets)
    differences = high[:, None] - low[None]
    expected = _by_scipy(differences.reshape(-1, count), targets).reshape(7, 5)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.isnan(got[2, 1])
    np.testing.assert_array_equal(got, spearman_matrix(differences, targets))
    assert spearman_differences(high[:0], low, targets).shape == (0, 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_value_that_is_not_finite_is_refused(bad: float, dtype: type) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 20)).astype(dtype)
    rows[1, 7] = bad
    with pytest.raises(InputError, match="finite"):
        spearman_matrix(rows, np.arange(20))
    with pytest.raises(InputError, match="finite"):
        spearman_differences(rows, np.zeros((2, 20)), np.arange(20))


def test_scores_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected scores \(P, N\) and \(Q, N\)"):
        spearman_differences(np.zeros((2, 4)), np.zeros((2, 5)), np.arange(4))
    with pytest.raises(InputError, match="N of at least 2"):
        spearman_differences(np.zeros((2, 4)), np.zeros((2, 4)), np.arange(5))
