"""``report.png``: the learning curve, and held-out scenes before and after with what was set."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from agents.answers import images_of
from agents.evaluation import Bench, Outcome
from agents.runs import STEP, read_metrics
from agents.training import GAIN
from agents.watching import HELD_OUT_GAIN, JUDGE, JUDGES
from attiqa.files import atomic_path

COLUMNS = 2  # scenes side by side


@dataclass(frozen=True)
class Pair:
    """One scene before and after.

    Attributes:
        name: what to call it.
        before, after: float32 ``(3, H, W)``, display sRGB in [0, 1].
        text: what was set, a few lines.
        gain: the reward of the second over the first.
    """

    name: str
    before: torch.Tensor
    after: torch.Tensor
    text: str
    gain: float


def pairs(bench: Bench, outcome: Outcome, count: int = 6) -> list[Pair]:
    """Up to `count` scenes of `bench`, evenly spread, rendered neutrally and as in `outcome`."""
    answer = outcome.answer
    if answer is None:
        return []
    chosen = np.unique(np.linspace(0, len(bench) - 1, min(count, len(bench))).round().astype(np.int64))
    core = bench.core
    before = core.render_of(chosen, core.space.neutral_values(len(chosen)))
    after = images_of(core, chosen, answer.rows(chosen))
    return [
        Pair(core.names[number], first, second, answer.describe(number), float(outcome.gains[number]))
        for number, first, second in zip(chosen.tolist(), before, after, strict=True)
    ]


def draw_report(
    path: Path,
    metrics: Path,
    scenes: Sequence[Pair],
    title: str,
    targets: Mapping[str, float],
    spreads: Mapping[str, float] | None = None,
    warning: str | None = None,
) -> None:
    """Write the report picture atomically.

    Args:
        path: a PNG.
        metrics: the run's metrics.csv.
        scenes: what to show; may be empty.
        title: one line above all.
        targets: gains drawn as horizontal lines beside the learning curve, by name.
        spreads: the unit of each judge by name; they are drawn beside the learning curve.
        warning: a sentence that nobody may miss.
    """
    rows = -(-len(scenes) // COLUMNS)
    figure = Figure(figsize=(13, 3.2 + 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    if warning:
        figure.suptitle(f"{title}\n{textwrap.fill(warning, 150)}", fontsize=11, color="#b02020")
    else:
        figure.suptitle(title, fontsize=11)
    heights = [3.0, 2.9 * rows] if rows else [1.0]
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = parts[0].subplots(1, 2 if spreads else 1, squeeze=False)[0]
    rows_of_metrics = read_metrics(metrics)
    draw_rewards(panels[0], rows_of_metrics, targets)
    if spreads:
        draw_judges(panels[1], rows_of_metrics, spreads)
    if rows:
        _sheet(parts[1], scenes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_rewards(axes: Axes, rows: Sequence[Mapping[str, str]], targets: Mapping[str, float]) -> None:
    """The gain in reward over a run, from the rows of its metrics.csv, and lines to reach."""
    for key, label, style in (
        (GAIN, "training rollouts (with exploration)", "-"),
        (HELD_OUT_GAIN, "held-out scenes (policy alone)", "o-"),
    ):
        _line(axes, rows, key, 1.0, style, label=label, markersize=4)
    for number, (name, value) in enumerate(targets.items()):
        axes.axhline(value, linestyle="--", linewidth=1, color=f"C{number + 2}", label=name)
    _finish(axes, "reward: gain over neutral", "lower right")


def draw_judges(axes: Axes, rows: Sequence[Mapping[str, str]], spreads: Mapping[str, float]) -> None:
    """What judges gain over a run, each in units of its spread between the held-out scenes."""
    for name, spread in spreads.items():
        _line(axes, rows, JUDGE + name, spread or 1.0, "o-", label=name, markersize=3, linewidth=1)
    _line(axes, rows, JUDGES, 1.0, "-", label="median", color="black", linewidth=2)
    _finish(axes, "judges: gain over neutral,\nin spreads between scenes", "best")


def _line(
    axes: Axes, rows: Sequence[Mapping[str, str]], key: str, unit: float, *style: Any, **how: Any
) -> None:
    points = [(float(row[STEP]), float(row[key]) / unit) for row in rows if row.get(key)]
    if points:
        axes.plot(*zip(*points, strict=True), *style, **how)


def _finish(axes: Axes, label: str, place: Literal["best", "lower right"]) -> None:
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set_xlabel("renders")
    axes.set_ylabel(label, fontsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc=place)


def _sheet(part: SubFigure, scenes: Sequence[Pair]) -> None:
    rows = -(-len(scenes) // COLUMNS)
    cells = part.subplots(rows, 3 * COLUMNS, squeeze=False, width_ratios=[3, 3, 1.7] * COLUMNS)
    for cell in cells.flat:
        cell.set_axis_off()
    for number, scene in enumerate(scenes):
        row, column = divmod(number, COLUMNS)
        before, after, text = cells[row, 3 * column : 3 * column + 3]
        before.imshow(_pixels(scene.before))
        before.set_title(f"{scene.name}: neutral", fontsize=8)
        after.imshow(_pixels(scene.after))
        after.set_title(f"policy: {scene.gain:+.4f}", fontsize=8)
        text.text(0, 1, scene.text, fontsize=7, family="monospace", va="top")


def _pixels(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).clamp(0, 1) * 255.0).round().to(torch.uint8).cpu().numpy()
