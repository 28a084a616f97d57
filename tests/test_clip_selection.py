"""Pair selection against SciPy, pair by pair, and against problems whose best pair is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from attiqa.clip.prompts import Pool
from attiqa.clip.selection import PairTable, distortion_srocc, human_srocc
from attiqa.errors import InputError


def _units(*shape: int, seed: int = 0) -> torch.Tensor:
    vectors = torch.randn(*shape, 24, generator=torch.manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_human_srocc_is_scipys_for_every_pair_ties_and_all() -> None:
    images, positive, negative = _units(60), _units(5, seed=1), _units(4, seed=2)
    images[10:20] = images[9]  # tied scores
    opinions = np.random.default_rng(0).integers(1, 6, 60).astype(float)  # tied opinions
    got = human_srocc(images, opinions, positive, negative)
    high, low = (images @ positive.T).numpy(), (images @ negative.T).numpy()
    expected = [[spearmanr(high[:, p] - low[:, q], opinions).statistic for q in range(4)] for p in range(5)]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_distortion_srocc_is_scipys_within_each_photograph_averaged() -> None:
    images, positive, negative = _units(9, 6), _units(3, seed=1), _units(4, seed=2)
    images[0, 2] = images[0, 3]
    levels = [-1, -0.8, -0.6, -0.4, -0.2, 0]
    got = distortion_srocc(images, levels, positive, negative)
    scores = (images @ positive.T)[..., :, None] - (images @ negative.T)[..., None, :]
    expected = np.mean(
        [
            [[spearmanr(scores[i, :, p, q], levels).statistic for q in range(4)] for p in range(3)]
            for i in range(9)
        ],
        axis=0,
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_scores_that_never_change_count_as_no_relation() -> None:
    images = _units(1).expand(4, 5, 24)
    assert (distortion_srocc(images, [-1, -0.7, -0.5, -0.2, 0], _units(2), _units(2, seed=1)) == 0).all()
    assert (human_srocc(images[0], np.arange(5.0), _units(2), _units(2, seed=1)) == 0).all()


def test_the_pair_along_the_direction_of_change_wins_and_its_reverse_is_worst() -> None:
    low, high, other = torch.eye(3)
    amounts = torch.linspace(0, 1, 6)
    steps = torch.stack([(1 - a) * low + a * high for a in amounts])  # (L, 3)
    images = torch.nn.functional.normalize(steps.expand(10, 6, 3) + 0.05 * _noise(10, 6), dim=-1)
    pool = Pool("sharpness", ("Other", "High", "Low"), ("Other", "High", "Low"))
    texts = torch.stack([other, high, low])
    table = PairTable(pool, distortion_srocc(images, amounts.tolist(), texts, texts))
    assert table.strategies == ("distortion",)
    assert table.pick("distortion") == ("High", "Low")
    assert table.pick("distortion", "worst") == ("Low", "High")


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.manual_seed(3))


def test_the_joint_strategy_is_the_sum_of_both_and_the_single_ones_stay_apart() -> None:
    pool = Pool("contrast", ("A", "B"), ("C", "D"))
    table = PairTable(pool, np.array([[0.9, 0.5], [0.6, 0.1]]), np.array([[0.0, 0.7], [0.5, 0.8]]))
    assert table.strategies == ("joint", "distortion", "human")
    assert table.pick("distortion") == ("A", "C")
    assert table.pick("human") == ("B", "D")
    assert table.pick("joint") == ("A", "D")
    assert table.pick("joint", "worst") in {("A", "C"), ("B", "D")}
    with pytest.raises(InputError, match="needs proxies that were not run"):
        PairTable(pool, np.zeros((2, 2))).objective("human")
