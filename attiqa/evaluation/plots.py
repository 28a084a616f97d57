"""Scores against ratings, with the logistic fit: one panel a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attiqa.files import atomic_path
from attiqa.metrics import fit_logistic, logistic

Panel = tuple[str, NDArray[np.float64], NDArray[np.float64]]


def draw_scatter(path: Path, panels: Sequence[Panel]) -> None:
    """Write a picture of (title, scores ``(N,)``, ratings ``(N,)``) panels side by side; needs no display."""
    figure = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, scores, ratings) in enumerate(panels, start=1):
        axis = figure.add_subplot(1, len(panels), number)
        axis.scatter(scores, ratings, s=9, alpha=0.5, linewidths=0)
        line = np.linspace(scores.min(), scores.max(), 200)
        axis.plot(line, logistic(line, fit_logistic(scores, ratings)), color="tab:red", label="logistic fit")
        axis.set(title=title, xlabel="predicted score", ylabel="mean opinion score")
        axis.legend(loc="upper left", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
