"""Scores against ratings, with the logistic fit: one panel a scorer or dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attiqa.files import atomic_path
from attiqa.metrics import fit_logistic, logistic

Panel = tuple[str, NDArray[np.float64], NDArray[np.float64]]

_COLUMNS = 3
_LEGEND_NAMES = 12  # more names would hide the points


def draw_scatter(
    path: Path,
    panels: Sequence[Panel],
    *,
    groups: Sequence[str] | None = None,
    rating_name: str = "mean opinion score",
) -> None:
    """Write a picture of panels in rows of three; needs no display.

    Args:
        path: the file.
        panels: (title, scores ``(N,)``, ratings ``(N,)``) each; items with NaN are left out of their panel.
        groups: ``(N,)`` names that colour the items, such as the generator of each image, where all panels
            show the same items.
        rating_name: label of the vertical axes.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    names: list[str | None] = [None] if groups is None else sorted(set(groups))  # type: ignore[assignment]
    for number, (title, scores, ratings) in enumerate(panels, start=1):
        axis = figure.add_subplot(rows, columns, number)
        here = np.isfinite(scores) & np.isfinite(ratings)
        for name in names:
            chosen = here if name is None else here & (np.asarray(groups) == name)
            axis.scatter(scores[chosen], ratings[chosen], s=12, alpha=0.65, linewidths=0, label=name)
        _draw_fit(axis, scores[here], ratings[here])
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("predicted score", fontsize=8)
        axis.set_ylabel(rating_name, fontsize=8)
        if number == 1 and len(names) <= _LEGEND_NAMES and axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_fit(axis: Axes, scores: NDArray[np.float64], ratings: NDArray[np.float64]) -> None:
    if len(scores) < 5 or not (np.ptp(scores) and np.ptp(ratings)):
        return  # the fit has four parameters, and needs two sides that vary
    line = np.linspace(scores.min(), scores.max(), 200)
    axis.plot(
        line, logistic(line, fit_logistic(scores, ratings)), color="black", lw=1.2, label="logistic fit"
    )
