"""Bootstrap draws in one pass, with SciPy on each resample as referee."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr

from attiqa.evaluation import bootstrap
from attiqa.evaluation.bootstrap import bootstrap_draws
from attiqa.metrics import percentile_interval, resample


def sample(count: int, *, ties: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Scores, the scores after a curve, ratings."""
    random = np.random.default_rng(count)
    ratings = random.normal(3, 1, count)
    scores = ratings + random.normal(0, 1, count)
    if ties:
        scores, ratings = np.round(scores, 1), np.round(ratings)
    return scores, np.tanh(scores), ratings


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("clusters", [None, [f"p{index % 7}" for index in range(60)]])
def test_every_draw_is_scipys_statistic_of_that_resample(ties: bool, clusters: list[str] | None) -> None:
    scores, mapped, ratings = sample(60, ties=ties)
    draws = bootstrap_draws(scores, mapped, ratings, clusters=clusters, repeats=40, seed=5)
    for number, index in enumerate(resample(60, clusters, 40, 5)):
        x, z, y = scores[index], mapped[index], ratings[index]
        referee = {
            "srocc": spearmanr(x, y).statistic,
            "plcc": pearsonr(x, y).statistic,
            "plcc_logistic": pearsonr(z, y).statistic,
            "krcc": kendalltau(x, y).statistic,
            "rmse": np.sqrt(np.mean((z - y) ** 2)),
        }
        assert {name: values[number] for name, values in draws.items()} == pytest.approx(referee, abs=1e-9)


def test_small_blocks_and_the_way_for_many_items_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = sample(50, ties=True)
    whole = bootstrap_draws(*sides, repeats=30)
    monkeypatch.setattr(bootstrap, "_BLOCK_WEIGHTS", 400)
    monkeypatch.setattr(bootstrap, "_PAIRED_ITEMS", 10)
    pieces = bootstrap_draws(*sides, repeats=30)
    for name, values in whole.items():
        np.testing.assert_allclose(pieces[name], values, rtol=0, atol=1e-12)


def test_a_constant_resample_is_undefined_and_is_left_out_of_the_interval() -> None:
    scores = np.array([0.0, 0.0, 0.0, 1.0])
    draws = bootstrap_draws(scores, scores, np.array([1.0, 2.0, 3.0, 4.0]), repeats=200)
    constant = np.array([(scores[index] == scores[index][0]).all() for index in resample(4, None, 200, 0)])
    np.testing.assert_array_equal(np.isnan(draws["srocc"]), constant)
    assert 0 < constant.sum() < 100
    assert np.isfinite(draws["rmse"]).all()
    assert np.isfinite(percentile_interval(draws["krcc"])).all()
