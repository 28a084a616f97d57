"""Agreement of predicted scores with human ratings, with intervals: SROCC, PLCC, KRCC, RMSE.

Every function takes two 1-d arrays of one length, predictions first, and raises `InputError` in a sentence
where the number would be undefined (lengths differ, fewer than two items, NaN, a constant side).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

from attiqa.errors import InputError
from attiqa.ranks import spearman_matrix

__all__ = [
    "bootstrap_interval",
    "fit_logistic",
    "krcc",
    "logistic",
    "percentile_interval",
    "plcc",
    "plcc_logistic",
    "resample",
    "rmse",
    "rmse_logistic",
    "spearman_matrix",
    "srocc",
]

Vector = NDArray[np.float64]


def srocc(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; ties take their average rank."""
    x, y = _checked(predictions, targets, "SROCC")
    return _correlation(rankdata(x), rankdata(y))


def plcc(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Pearson's linear correlation of the raw values, in [-1, 1]."""
    return _correlation(*_checked(predictions, targets, "PLCC"))


def krcc(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Kendall's rank correlation tau-b, in [-1, 1]."""
    x, y = _checked(predictions, targets, "KRCC")
    return float(kendalltau(x, y).statistic)


def rmse(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Root mean squared error, in the unit of the targets: both sides must share one scale."""
    x, y = _checked(predictions, targets, "RMSE", allow_constant=True)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def plcc_logistic(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Pearson's correlation after `fit_logistic` has mapped the predictions to the targets' scale.

    The fit may fall, so the sign is lost: a scorer that points the wrong way shows it in SROCC and `plcc`.
    """
    x, y = _checked(predictions, targets, "PLCC")
    mapped = logistic(x, fit_logistic(x, y))
    # a flat fit explains nothing; its correlation is 0 / 0 but for rounding
    return _correlation(mapped, y) if np.ptp(mapped) > 1e-12 * np.ptp(y) else 0.0


def rmse_logistic(predictions: ArrayLike, targets: ArrayLike) -> float:
    """Root mean squared error after `fit_logistic`, in the unit of the targets."""
    x, y = _checked(predictions, targets, "RMSE")
    return rmse(logistic(x, fit_logistic(x, y)), y)


def logistic(values: ArrayLike, coefficients: ArrayLike) -> Vector:
    """The 4-parameter logistic of VQEG's FR-TV Phase I report (2000).

    ``q(x) = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2``, with `coefficients` ``(b1, b2, b3, b4)``.
    """
    upper, lower, middle, width = np.asarray(coefficients, dtype=np.float64)
    z = (np.asarray(values, dtype=np.float64) - middle) / abs(width)
    return (upper - lower) * expit(z) + lower


def fit_logistic(predictions: ArrayLike, targets: ArrayLike) -> Vector:
    """Least-squares coefficients ``(b1, b2, b3, b4)`` of `logistic`; a falling fit has b1 < b2.

    Started from VQEG's values and, our choice, from two wider slopes, for the usual start can get stuck
    beside the best fit; the smallest residual wins.
    """
    x, y = _checked(predictions, targets, "the logistic fit")
    return np.array(_fitted(x.tobytes(), y.tobytes()))


@functools.lru_cache(maxsize=8)  # three metrics ask for the fit of the same values
def _fitted(predictions: bytes, targets: bytes) -> tuple[float, float, float, float]:
    x, y = np.frombuffer(predictions), np.frombuffer(targets)
    center = x.mean()
    widest = np.abs(x - center).max()
    scale = widest * ((x - center) / widest).std()  # squares of very small or large values would be 0 or inf
    z = (x - center) / scale
    rising = _correlation(z, y) >= 0
    ends = (y.max(), y.min()) if rising else (y.min(), y.max())
    fits = [
        least_squares(lambda b: logistic(z, b) - y, [*ends, 0.0, width], x_scale=[np.std(y)] * 2 + [1, 1])
        for width in (0.25, 1.0, 3.0)
    ]
    upper, lower, middle, width = map(float, min(fits, key=lambda fit: fit.cost).x)
    return upper, lower, float(middle * scale + center), float(abs(width) * scale)


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    clusters: ArrayLike | None = None,
    repeats: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic(*arrays)`` (Efron 1979).

    Args:
        statistic: takes resampled arrays, returns a float; draws for which it raises `InputError`
            (a resample may be constant) are left out.
        arrays: ``(N, ...)`` each; rows are drawn together.
        clusters: ``(N,)`` labels such as the reference or the prompt; whole clusters are drawn, which
            keeps the interval honest where items of one cluster are alike.
        repeats: number of draws.
        confidence: of the interval, in (0, 1).
        seed: equal seeds give equal intervals.

    Returns:
        the lower and the upper end.

    Raises:
        InputError: more than half of the draws have no defined statistic, or an argument is out of range.
    """
    values = [np.asarray(array) for array in arrays]
    draws = []
    for index in resample(len(values[0]), clusters, repeats, seed):
        try:
            draws.append(statistic(*(value[index] for value in values)))
        except InputError:
            draws.append(np.nan)
    return percentile_interval(draws, confidence)


def percentile_interval(draws: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of a statistic's bootstrap draws ``(R,)``; NaN marks an undefined one.

    Raises:
        InputError: more than half of the draws are undefined, or the confidence is out of range.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1; it is {confidence}.")
    values = np.asarray(draws, dtype=np.float64)
    known = values[~np.isnan(values)]
    if len(known) * 2 < len(values):
        raise InputError(
            f"only {len(known)} of {len(values)} bootstrap draws have a defined statistic; "
            "there are too few different items or clusters for an interval."
        )
    tail = 50 * (1 - confidence)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def resample(
    count: int, clusters: ArrayLike | None = None, repeats: int = 1000, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Seeded bootstrap draws: index arrays into ``range(count)``, the members of a cluster together."""
    if repeats < 1 or count < 1:
        raise InputError(
            f"a bootstrap needs at least one item and one draw; these are {count} and {repeats}."
        )
    random = np.random.default_rng(seed)
    if clusters is None:
        return list(random.integers(0, count, size=(repeats, count)))
    labels = np.asarray(clusters)
    if labels.shape != (count,):
        raise InputError(
            f"clusters must hold one label for each of {count} items; their shape is {labels.shape}."
        )
    _, codes = np.unique(labels, return_inverse=True)
    if codes.max() == 0:
        raise InputError(f"a bootstrap over clusters needs two or more; all {count} items are in one.")
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    chosen = random.integers(0, len(members), size=(repeats, len(members)))
    return [np.concatenate([members[cluster] for cluster in row]) for row in chosen]


def _correlation(x: Vector, y: Vector) -> float:
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # so that no square is lost or endless
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _checked(
    predictions: ArrayLike, targets: ArrayLike, what: str, *, allow_constant: bool = False
) -> tuple[Vector, Vector]:
    try:
        x, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} needs numbers ({error}).") from None
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise InputError(
            f"{what} needs two 1-d arrays of one length, 2 or more; their shapes are {x.shape} and {y.shape}."
        )
    for name, values in (("predictions", x), ("targets", y)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise InputError(
                f"{what} needs finite numbers; {bad} of {values.size} {name} are NaN or infinite: "
                "drop those items."
            )
        if not allow_constant and (values == values[0]).all():
            raise InputError(f"{what} is undefined: all {values.size} {name} are {values[0]:g}.")
    return x, y
