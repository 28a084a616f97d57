"""Pictures beside the records: bars with intervals; `attiqa.evaluation.plots` draws the scatters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attiqa.files import atomic_path


def bars(
    path: Path,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    label: str,
    reference: tuple[float, str] | None = None,
) -> None:
    """Horizontal bars with their intervals; `reference` is a (value, name) line such as chance."""
    figure = Figure(figsize=(6.5, 0.8 + 0.38 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)  # needs no display
    axis = figure.add_subplot()
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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
