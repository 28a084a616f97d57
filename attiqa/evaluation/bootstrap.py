"""Bootstrap draws of every metric in one pass: a draw is a row of weights, not a copy of the data.

How often each item is drawn says all that a resample says. Ranks then follow from running sums of weights in
the order of the values, and correlations from weighted sums, for all draws at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attiqa.errors import InputError
from attiqa.metrics import krcc, resample

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# draws share a block of so many weights: 32 MB of float64, of which a handful are alive at once
_BLOCK_WEIGHTS = 4_000_000
# up to so many items Kendall's pairs fit a matrix and its product with the weights is the faster way
_PAIRED_ITEMS = 4_000
_PAIRED_COLUMNS = 1_024


def bootstrap_draws(
    predictions: ArrayLike,
    mapped: ArrayLike,
    targets: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Vector]:
    """The metrics of `attiqa.evaluation.agreement` on each of `attiqa.metrics.resample`'s draws.

    Args:
        predictions: ``(N,)`` finite scores.
        mapped: ``(N,)`` the scores after the logistic fit.
        targets: ``(N,)`` finite ratings.
        clusters: ``(N,)`` labels whose members are drawn together, or ``None``.
        repeats: draws.
        seed: of the draws.

    Returns:
        metric to ``(repeats,)``; NaN where a resample is constant and the metric not defined.
    """
    x, z, y = (_Values.of(values) for values in (predictions, mapped, targets))
    draws = resample(len(y.values), clusters, repeats, seed)
    block = max(1, _BLOCK_WEIGHTS // len(y.values))
    parts = [_metrics(x, z, y, draws[first : first + block]) for first in range(0, repeats, block)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _Values:
    """One side of a comparison.

    Attributes:
        values: ``(N,)``.
        centred: the same less their mean, so that weighted sums lose few digits.
        order: permutation that sorts them.
        starts: where each group of equal values begins in that order.
        group: ``(N,)`` number of each item's group, in the items' own order.
    """

    values: Vector
    centred: Vector
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, values: ArrayLike) -> _Values:
        array = np.asarray(values, dtype=np.float64)
        order = np.argsort(array, kind="stable")
        is_first = np.diff(array[order], prepend=-np.inf) != 0
        group = np.empty(len(array), dtype=np.int64)
        group[order] = np.cumsum(is_first) - 1
        return cls(array, array - array.mean(), order, np.flatnonzero(is_first), group)

    def totals(self, weights: Matrix) -> Matrix:
        """Weight of each group of equal values, ``(R, G)``, in rising order of the values."""
        return np.add.reduceat(weights[:, self.order], self.starts, axis=1)

    def ranks(self, totals: Matrix) -> Matrix:
        """Average rank ``(R, N)`` of each item in each resample, less the mean rank."""
        above = totals.cumsum(axis=1)
        ranks = above - (totals - 1) / 2 - (above[:, -1:] + 1) / 2
        return ranks[:, self.group]


def _metrics(x: _Values, z: _Values, y: _Values, draws: list[NDArray[np.int64]]) -> dict[str, Vector]:
    count = len(y.values)
    weights = np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(np.float64)  # (R, N)
    totals = {"x": x.totals(weights), "z": z.totals(weights), "y": y.totals(weights)}
    # a resample in which one value alone has weight is constant
    varies = {side: (total > 0).sum(axis=1) > 1 for side, total in totals.items()}
    known = varies["x"] & varies["y"]
    squares = weights @ (z.values - y.values) ** 2
    return {
        "srocc": _defined(_correlation(weights, x.ranks(totals["x"]), y.ranks(totals["y"])), known),
        "plcc": _defined(_pearson(weights, x, y), known),
        "plcc_logistic": _defined(_pearson(weights, z, y), varies["z"] & varies["y"]),
        "krcc": _defined(_kendall(weights, x, y, totals, draws), known),
        "rmse": np.sqrt(squares / weights.sum(axis=1)),
    }


def _pearson(weights: Matrix, x: _Values, y: _Values) -> Vector:
    """Pearson's correlation under each row of weights."""
    total = weights.sum(axis=1)
    first, second = weights @ x.centred, weights @ y.centred
    covariance = weights @ (x.centred * y.centred) - first * second / total
    spread = weights @ x.centred**2 - first**2 / total
    other = weights @ y.centred**2 - second**2 / total
    return _ratio(covariance, spread * other)


def _correlation(weights: Matrix, ranks: Matrix, others: Matrix) -> Vector:
    """The same of centred ranks, which differ from draw to draw."""
    weighted = weights * ranks
    covariance = np.einsum("rn,rn->r", weighted, others)
    spread = np.einsum("rn,rn->r", weighted, ranks)
    return _ratio(covariance, spread * np.einsum("rn,rn,rn->r", weights, others, others))


def _kendall(
    weights: Matrix, x: _Values, y: _Values, totals: dict[str, Matrix], draws: list[NDArray[np.int64]]
) -> Vector:
    """Kendall's tau-b (1945) of each resample."""
    if weights.shape[1] > _PAIRED_ITEMS:
        return np.array([_or_nan(krcc, x.values[draw], y.values[draw]) for draw in draws])
    # whole numbers far below 2**24: float32 sums them exactly
    drawn = weights.astype(np.float32)
    net = np.zeros(len(weights))
    for first in range(0, weights.shape[1], _PAIRED_COLUMNS):
        some = slice(first, first + _PAIRED_COLUMNS)
        signs = np.sign(x.group[:, None] - x.group[some]) * np.sign(y.group[:, None] - y.group[some])
        net += np.einsum("rn,rn->r", drawn @ signs.astype(np.float32), weights[:, some])
    items = weights.sum(axis=1)
    pairs = items * (items - 1) / 2
    tied = [(total * (total - 1) / 2).sum(axis=1) for total in (totals["x"], totals["y"])]
    return _ratio(net / 2, (pairs - tied[0]) * (pairs - tied[1]))


def _ratio(covariance: Vector, product: Vector) -> Vector:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(covariance / np.sqrt(product), -1.0, 1.0)


def _defined(values: Vector, known: NDArray[np.bool_]) -> Vector:
    return np.where(known, values, np.nan)


def _or_nan(metric: Callable[[ArrayLike, ArrayLike], float], x: Vector, y: Vector) -> float:
    try:
        return metric(x, y)
    except InputError:
        return float("nan")
