"""Agreement of predicted scores with ratings: every metric with its interval, overall and over splits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attiqa.errors import InputError
from attiqa.evaluation.bootstrap import bootstrap_draws
from attiqa.metrics import (
    fit_logistic,
    krcc,
    logistic,
    percentile_interval,
    plcc,
    plcc_logistic,
    rmse_logistic,
    srocc,
)
from attiqa.splits import Split

# RMSE needs the ratings' scale, which only the logistic fit gives a score
METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "srocc": srocc,
    "plcc": plcc,
    "plcc_logistic": plcc_logistic,
    "krcc": krcc,
    "rmse": rmse_logistic,
}


def agreement(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    repeats: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every metric of `METRICS` with its percentile bootstrap interval.

    The logistic is fitted once, on all items; the intervals of ``plcc_logistic`` and ``rmse`` are of the
    mapped scores (refitting in each draw would cost a hundred times as much).

    Args:
        predictions: ``(N,)`` scores.
        targets: ``(N,)`` ratings.
        clusters: ``(N,)`` references or prompts that are drawn whole, or ``None``.
        repeats: bootstrap draws; 0 leaves the intervals out.
        confidence: of the intervals.
        seed: of the draws.

    Returns:
        metric to ``{"value", "low", "high"}``; without the interval where most draws leave the metric
        undefined.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    rows = {name: {"value": metric(x, y)} for name, metric in METRICS.items()}
    if not repeats:
        return rows
    mapped = logistic(x, fit_logistic(x, y))
    draws = bootstrap_draws(x, mapped, y, clusters=clusters, repeats=repeats, seed=seed)
    for name, values in draws.items():
        with contextlib.suppress(InputError):  # most draws of a few alike items are constant
            low, high = percentile_interval(values, confidence)
            rows[name] |= {"low": low, "high": high}
    return rows


def check_test_sides(targets: ArrayLike, splits: Sequence[Split]) -> None:
    """Refuse, before hours are spent on them, splits on whose test sides no correlation is defined."""
    y = np.asarray(targets, dtype=np.float64)
    for number, split in enumerate(splits):
        rated = y[split.test]
        if len(rated) < 2 or (rated == rated[0]).all():
            what = "of one rating" if len(rated) > 1 else "which is too few"
            raise InputError(
                f"split {number} has {len(rated)} test images, {what}, for a correlation; give more images, "
                "or a file of splits with larger test sides."
            )


def over_splits(
    predictions: Sequence[ArrayLike] | NDArray, targets: ArrayLike, splits: Sequence[Split]
) -> dict[str, Any]:
    """Metrics on the test side of every split, with their median and spread.

    Args:
        predictions: ``(N,)`` for a model that saw none of the splits (zero-shot), or ``(S, N)``: one row
            of scores for each split, from the model that was trained on it.
        targets: ``(N,)`` ratings.
        splits: S of them.

    Returns:
        ``rows``: one ``{metric: value, "test_images": n}`` a split; ``median``, ``std``, ``min`` and ``max``
        of each metric. A metric is ``None`` where a model scores all images of a test side alike, and such
        splits take no part in the summary.

    Raises:
        InputError: the shapes disagree, or a test side has no defined metrics (`check_test_sides`).
    """
    scores, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if scores.shape not in (y.shape, (len(splits), *y.shape)):
        raise InputError(
            f"expected predictions of shape {y.shape} or {(len(splits), *y.shape)}; got {scores.shape}."
        )
    check_test_sides(y, splits)
    per_split = np.broadcast_to(scores, (len(splits), *y.shape))
    rows: list[dict[str, Any]] = []
    for row, split in zip(per_split, splits, strict=True):
        values = {name: _defined(metric, row[split.test], y[split.test]) for name, metric in METRICS.items()}
        rows.append({**values, "test_images": len(split.test)})
    table = {name: [row[name] for row in rows if row[name] is not None] for name in METRICS}
    summaries: dict[str, Callable[[Any], Any]] = {
        "median": np.median,
        "std": np.std,
        "min": np.min,
        "max": np.max,
    }
    return {
        "rows": rows,
        **{
            word: {name: float(of(column)) if column else None for name, column in table.items()}
            for word, of in summaries.items()
        },
    }


def with_spread(summary: dict[str, Any], metric: str) -> str:
    """Median and standard deviation of what `over_splits` returns, for print."""
    if summary["median"][metric] is None:
        return "undefined"
    return f"{summary['median'][metric]:.3f} \u00b1 {summary['std'][metric]:.3f}"


def _defined(metric: Callable[[ArrayLike, ArrayLike], float], x: NDArray, y: NDArray) -> float | None:
    try:
        return metric(x, y)
    except InputError:  # a model that collapsed scores all images alike
        return None
