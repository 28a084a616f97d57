"""Correlations, the logistic fit and bootstrap intervals, with SciPy and scikit-learn as referees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from sklearn.metrics import root_mean_squared_error

from attiqa import metrics
from attiqa.errors import InputError


@pytest.fixture
def noisy() -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(7)
    targets = np.round(random.uniform(1, 5, 300), 1)  # rounded: ties, as in real ratings
    return targets + random.normal(0, 0.8, 300), targets


def test_correlations_and_error_match_scipy_and_scikit_learn(noisy: tuple[NDArray, NDArray]) -> None:
    x, y = noisy
    assert metrics.srocc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert metrics.plcc(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
    assert metrics.krcc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert metrics.rmse(x, y) == pytest.approx(root_mean_squared_error(y, x), abs=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logistic_fit_is_no_worse_than_scipys_curve_fit(sign: float) -> None:
    random = np.random.default_rng(3)
    x = random.normal(50, 20, 400)
    y = metrics.logistic(sign * x, [4.5, 1.2, sign * 55, 9.0]) + random.normal(0, 0.1, 400)

    def form(v: NDArray, b1: float, b2: float, b3: float, b4: float) -> NDArray:
        return metrics.logistic(v, [b1, b2, b3, b4])

    start = [y.max(), y.min(), x.mean(), x.std()] if sign > 0 else [y.min(), y.max(), x.mean(), x.std()]
    referee, _ = curve_fit(form, x, y, start, maxfev=10_000)
    mapped = metrics.logistic(x, metrics.fit_logistic(x, y))
    assert metrics.rmse(mapped, y) <= metrics.rmse(form(x, *referee), y) + 1e-6
    assert metrics.plcc_logistic(x, y) > abs(metrics.plcc(x, y))
    assert metrics.rmse_logistic(x, y) == pytest.approx(0.1, abs=0.02)


def test_logistic_fit_gets_away_from_the_bad_start_of_a_step_function() -> None:
    x = np.concatenate([np.linspace(0, 1, 100), [1000.0]])  # one outlier sets the spread
    y = np.concatenate([np.linspace(1, 5, 100), [5.0]])
    assert metrics.plcc_logistic(x, y) > 0.5 > metrics.plcc(x, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("count", [2, 5, 12, 401])
def test_spearman_matrix_matches_scipy_with_and_without_ties(dtype: type, count: int) -> None:
    random = np.random.default_rng(count)
    rows = random.normal(0, 3, (60, count))
    rows[:20] = np.round(rows[:20])
    rows[5] = 2  # constant: undefined
    targets = np.arange(count) if count < 5 else np.round(random.normal(0, 2, count))
    rows = rows.astype(dtype)
    expected = []
    for row in rows:
        constant = (row == row[0]).all()
        expected.append(np.nan if constant else scipy.stats.spearmanr(row, targets).statistic)
    np.testing.assert_allclose(metrics.spearman_matrix(rows, targets), expected, atol=1e-12)


def test_spearman_matrix_keeps_leading_axes_and_the_order_of_signed_zeros_and_denormals() -> None:
    row = np.array([-1.0, -1e-42, -0.0, 0.0, 1e-42, 2.0], dtype=np.float32)
    result = metrics.spearman_matrix(np.stack([row, -row])[None], np.arange(6))
    assert result.shape == (1, 2)
    expected = scipy.stats.spearmanr(row, np.arange(6)).statistic
    np.testing.assert_allclose(result[0], [expected, -expected], atol=1e-12)


def test_spearman_matrix_takes_rows_in_any_memory_order() -> None:
    columns = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    expected = [scipy.stats.spearmanr(column, np.arange(5)).statistic for column in columns.T]
    np.testing.assert_allclose(metrics.spearman_matrix(columns.T, np.arange(5)), expected, atol=1e-12)


def test_bootstrap_interval_agrees_with_scipys_percentile_bootstrap(noisy: tuple[NDArray, NDArray]) -> None:
    x, y = noisy
    low, high = metrics.bootstrap_interval(metrics.plcc, x, y, repeats=2000)
    referee = scipy.stats.bootstrap(
        (x, y), metrics.plcc, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=1
    ).confidence_interval
    assert low == pytest.approx(referee.low, abs=0.01)
    assert high == pytest.approx(referee.high, abs=0.01)
    assert low < metrics.plcc(x, y) < high


def test_bootstrap_interval_repeats_with_its_seed_and_widens_with_clusters(
    noisy: tuple[NDArray, NDArray],
) -> None:
    x, y = (np.repeat(side[:30], 10) for side in noisy)  # ten copies carry no new information
    again = [metrics.bootstrap_interval(metrics.srocc, x, y, repeats=200, seed=4) for _ in range(2)]
    assert again[0] == again[1]
    low, high = metrics.bootstrap_interval(
        metrics.srocc, x, y, clusters=np.repeat(np.arange(30), 10), repeats=200
    )
    assert high - low > 2 * (again[0][1] - again[0][0])


def test_bootstrap_draws_hold_whole_clusters() -> None:
    clusters = np.array(["a", "b", "a", "c", "b", "b"])
    for draw in metrics.resample(6, clusters, repeats=20):
        counts = np.bincount(draw, minlength=6)
        assert counts[0] == counts[2]
        assert counts[1] == counts[4] == counts[5]


@pytest.mark.parametrize("metric", [metrics.srocc, metrics.plcc, metrics.krcc, metrics.plcc_logistic])
def test_undefined_correlations_are_refused_in_a_sentence(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="all 3 predictions are 2"):
        metric([2, 2, 2], [1, 2, 3])
    with pytest.raises(InputError, match="1 of 3 targets are NaN or infinite"):
        metric([1, 2, 3], [1, np.nan, 3])
    with pytest.raises(InputError, match=r"shapes are \(3,\) and \(2,\)"):
        metric([1, 2, 3], [1, 2])


def test_bad_rank_matrices_and_bootstraps_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"predictions \(\.\.\., N\) and targets \(N,\)"):
        metrics.spearman_matrix(np.ones((2, 3)), np.arange(4))
    with pytest.raises(InputError, match="all 3 targets are 1"):
        metrics.spearman_matrix(np.ones((2, 3)), np.ones(3))
    with pytest.raises(InputError, match="NaN or infinity"):
        metrics.spearman_matrix(np.full((2, 3), np.nan), np.arange(3))
    with pytest.raises(InputError, match="only 0 of 10 bootstrap draws"):
        metrics.bootstrap_interval(metrics.srocc, [1, 1, 1], [1, 2, 3], repeats=10)
    with pytest.raises(InputError, match="all 3 items are in one"):
        metrics.bootstrap_interval(metrics.srocc, [1, 2, 3], [1, 2, 3], clusters=["a", "a", "a"])
    with pytest.raises(InputError, match="between 0 and 1"):
        metrics.bootstrap_interval(metrics.srocc, [1, 2], [1, 2], confidence=95)
    with pytest.raises(InputError, match="one label for each of 3"):
        metrics.resample(3, clusters=[1, 2])


def test_rows_of_any_memory_layout_are_ranked_alike() -> None:
    predictions = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    targets = np.arange(40)
    np.testing.assert_array_equal(
        metrics.spearman_matrix(predictions.T, targets),
        metrics.spearman_matrix(np.ascontiguousarray(predictions.T), targets),
    )


@pytest.mark.parametrize("unit", [1e-200, 1e150])
def test_no_metric_depends_on_the_unit_of_the_scores(unit: float) -> None:
    random = np.random.default_rng(4)
    targets = random.uniform(1, 5, 30)
    scores = targets + random.normal(0, 0.5, 30)
    for name in ("srocc", "krcc", "plcc", "plcc_logistic", "rmse_logistic"):
        metric = getattr(metrics, name)
        assert metric(scores * unit, targets) == pytest.approx(metric(scores, targets), rel=1e-6)


def test_words_are_no_scores() -> None:
    with pytest.raises(InputError, match=r"SROCC needs numbers \(could not convert"):
        metrics.srocc(["good", "bad"], [1, 2])
