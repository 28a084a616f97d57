"""Two scorers on the same items: paired bootstrap, permutation test, and accuracy on pairs of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from attiqa.errors import InputError
from attiqa.metrics import resample, srocc

Statistic = Callable[[NDArray, NDArray], float]


@dataclass(frozen=True)
class Comparison:
    """First scorer against second.

    Attributes:
        first, second: the statistic of each.
        difference: first minus second.
        low, high: its percentile interval under a paired bootstrap.
        p_value: two-sided, of a permutation test that swaps the scorers item by item.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def compare_scorers(
    first: ArrayLike,
    second: ArrayLike,
    targets: ArrayLike,
    *,
    statistic: Statistic = srocc,
    clusters: ArrayLike | None = None,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Is one scorer's agreement with the ratings better than the other's, on the same items?

    Under the null hypothesis of the permutation test the scorers are exchangeable at each item. Their scales
    differ, so their ranks are swapped, not their values: right for rank statistics, our choice for others.

    Args:
        first: ``(N,)`` scores.
        second: ``(N,)`` scores.
        targets: ``(N,)`` ratings.
        statistic: of (scores, ratings).
        clusters: ``(N,)`` labels; whole clusters are drawn and swapped.
        repeats: draws of each test.
        confidence: of the interval.
        seed: equal seeds give equal answers.
    """
    x, z, y = (np.asarray(values, dtype=np.float64) for values in (first, second, targets))
    if not x.shape == z.shape == y.shape:
        raise InputError(
            f"a comparison needs items in common; the shapes are {x.shape}, {z.shape} and {y.shape}."
        )
    one, other = statistic(x, y), statistic(z, y)
    draws = []
    for index in resample(len(y), clusters, repeats, seed):
        try:
            draws.append(statistic(x[index], y[index]) - statistic(z[index], y[index]))
        except InputError:
            continue  # a resample without two different values
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail]) if draws else (np.nan, np.nan)
    return Comparison(
        one,
        other,
        one - other,
        float(low),
        float(high),
        _swap_test(x, z, y, statistic, clusters, repeats, seed),
    )


def _swap_test(
    x: NDArray,
    z: NDArray,
    y: NDArray,
    statistic: Statistic,
    clusters: ArrayLike | None,
    repeats: int,
    seed: int,
) -> float:
    ranks, others = rankdata(x), rankdata(z)
    observed = abs(statistic(ranks, y) - statistic(others, y))
    labels = (
        np.arange(len(y)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    )
    random = np.random.default_rng(seed)
    extreme = 0
    for _ in range(repeats):
        swap = random.integers(0, 2, labels.max() + 1).astype(bool)[labels]
        difference = statistic(np.where(swap, others, ranks), y) - statistic(np.where(swap, ranks, others), y)
        extreme += abs(difference) >= observed - 1e-12
    # the observed order is one of the permutations (Phipson and Smyth 2010)
    return (extreme + 1) / (repeats + 1)


def rated_pairs(targets: ArrayLike, groups: ArrayLike, gap: float = 0.0) -> NDArray[np.int64]:
    """Pairs of one group whose ratings differ, by `gap` or more: ``(P, 2)`` rows, the better item first."""
    y = np.asarray(targets, dtype=np.float64)
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    found = []
    for code in range(len(names)):  # group by group: a matrix over all items would not fit for large sets
        rows = np.flatnonzero(codes == code)
        lead = y[rows][:, None] - y[rows]
        # ratings are means of few opinions: 2.5 - 2.0 must not fail at 0.5 by rounding
        better, worse = np.nonzero((lead > 0) & (lead >= gap - 1e-9))
        found.append(np.stack([rows[better], rows[worse]], axis=1))
    return np.concatenate(found)


def pair_accuracy(scores: ArrayLike, pairs: NDArray[np.int64]) -> float:
    """Share of pairs ``(P, 2)``, better item first, that the scores order alike; equal scores count half."""
    if not len(pairs):
        raise InputError("pair accuracy needs at least one pair; use a smaller rating gap.")
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values[pairs]).all():
        raise InputError("pair accuracy needs finite scores; these hold NaN or infinity: drop those items.")
    difference = values[pairs[:, 0]] - values[pairs[:, 1]]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
