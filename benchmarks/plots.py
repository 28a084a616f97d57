"""Pictures beside the records: scores against ratings with their fit, and bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed, and none is asked for

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from attiqa.files import atomic_path
from attiqa.metrics import fit_logistic, logistic


def scatter(
    path: Path,
    panels: Sequence[tuple[str, NDArray[np.float64]]],
    ratings: NDArray[np.float64],
    groups: Sequence[str],
    rating_name: str,
) -> None:
    """One panel a scorer: its scores against the ratings, coloured by group, with the logistic fit.

    Args:
        path: PNG to write.
        panels: (title, scores ``(N,)``) each; items with NaN are left out of their panel.
        ratings: ``(N,)`` human ratings.
        groups: ``(N,)`` names, such as the generator of each image.
        rating_name: label of the vertical axis.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3.4 * rows), squeeze=False, sharey=True)
    names = sorted(set(groups))
    labels = np.asarray(groups)
    for axis, (title, scores) in zip(axes.flat, panels, strict=False):
        here = np.isfinite(scores) & np.isfinite(ratings)
        for color, name in enumerate(names):
            chosen = here & (labels == name)
            axis.scatter(
                scores[chosen], ratings[chosen], s=14, alpha=0.75, color=f"C{color % 10}", label=name
            )
        if here.sum() > 4 and np.ptp(scores[here]) > 0 and np.ptp(ratings[here]) > 0:
            grid = np.linspace(scores[here].min(), scores[here].max(), 200)
            axis.plot(grid, logistic(grid, fit_logistic(scores[here], ratings[here])), color="black", lw=1.2)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("score", fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(rating_name, fontsize=8)
    if 1 < len(names) <= 12:
        axes.flat[0].legend(fontsize=6)
    _save(path, figure)


def bars(
    path: Path,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    label: str,
    reference: tuple[float, str] | None = None,
) -> None:
    """Horizontal bars with their intervals; `reference` is a (value, name) line such as chance."""
    figure, axis = plt.subplots(figsize=(6.5, 0.6 + 0.38 * len(names)))
    heights = np.asarray(values, dtype=np.float64)
    ends = np.array([(v, v) if pair is None else pair for v, pair in zip(heights, intervals, strict=True)])
    errors = np.clip(np.abs(ends.T - heights), 0, None).reshape(2, -1)
    places = np.arange(len(names))[::-1]
    axis.barh(places, heights, xerr=errors, color="C0", alpha=0.8, capsize=3)
    axis.set_yticks(places, names, fontsize=8)
    axis.set_xlabel(label, fontsize=8)
    if reference is not None:
        axis.axvline(reference[0], color="black", lw=1, ls="--", label=reference[1])
        axis.legend(fontsize=7)
    _save(path, figure)


def _save(path: Path, figure: plt.Figure) -> None:
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
