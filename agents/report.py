"""``report.png``: the learning curve, and held-out scenes before and after with what was set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from agents.evaluation import Bench, Outcome
from agents.runs import STEP, read_metrics
from agents.training import GAIN, HELD_OUT_GAIN
from attiqa.files import atomic_path
from isp_env.parameters import ParameterSpace

COLUMNS = 2  # scenes side by side
NAMED = 6  # parameters listed for a scene, those moved furthest
LEAST_MOVED = 0.01  # of half the range; less cannot be seen


@dataclass(frozen=True)
class Pair:
    """One scene before and after.

    Attributes:
        name: what to call it.
        before, after: float32 ``(3, H, W)``, display sRGB in [0, 1].
        action: ``(P,)`` in [-1, 1].
        gain: the reward of the second over the first.
    """

    name: str
    before: torch.Tensor
    after: torch.Tensor
    action: np.ndarray
    gain: float


def pairs(bench: Bench, outcome: Outcome, count: int = 6) -> list[Pair]:
    """Up to `count` scenes of `bench`, evenly spread, rendered neutrally and as in `outcome`."""
    if outcome.actions is None:
        return []
    chosen = np.unique(np.linspace(0, len(bench) - 1, min(count, len(bench))).round().astype(np.int64))
    core = bench.core
    actions = torch.as_tensor(outcome.actions[chosen], dtype=torch.float32)
    before = core.render_of(chosen, core.space.to_physical(torch.zeros_like(actions)))
    after = core.render_of(chosen, core.space.to_physical(actions))
    return [
        Pair(core.names[number], first, second, outcome.actions[number], float(outcome.gains[number]))
        for number, first, second in zip(chosen, before, after, strict=True)
    ]


def draw_report(
    path: Path,
    metrics: Path,
    scenes: Sequence[Pair],
    space: ParameterSpace,
    title: str,
    targets: dict[str, float],
) -> None:
    """Write the report picture atomically.

    Args:
        path: a PNG.
        metrics: the run's metrics.csv.
        scenes: what to show; may be empty.
        space: the parameters that the scenes' actions set.
        title: one line above all.
        targets: gains drawn as horizontal lines beside the learning curve, by name.
    """
    rows = -(-len(scenes) // COLUMNS)
    figure = Figure(figsize=(13, 3.2 + 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    heights = [3.0, 2.9 * rows] if rows else [1.0]
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _curve(parts[0], metrics, targets)
    if rows:
        _sheet(parts[1], scenes, space)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _curve(part: SubFigure, metrics: Path, targets: dict[str, float]) -> None:
    axes = part.subplots()
    rows = read_metrics(metrics)
    for key, label, style in (
        (GAIN, "training rollouts (with exploration)", "-"),
        (HELD_OUT_GAIN, "held-out scenes (policy alone)", "o-"),
    ):
        points = [(float(row[STEP]), float(row[key])) for row in rows if row.get(key)]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    for number, (name, value) in enumerate(targets.items()):
        axes.axhline(value, linestyle="--", linewidth=1, color=f"C{number + 2}", label=name)
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(xlabel="renders", ylabel="gain over the neutral render")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="lower right")


def _sheet(part: SubFigure, scenes: Sequence[Pair], space: ParameterSpace) -> None:
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
        text.text(0, 1, describe_action(scene.action, space), fontsize=7, family="monospace", va="top")


def describe_action(action: np.ndarray, space: ParameterSpace, count: int = NAMED) -> str:
    """The parameters that `action` ``(P,)`` moves furthest, in physical units, one a line."""
    values = space.to_physical(torch.as_tensor(action, dtype=torch.float32)[None])
    # back in [-1, 1]: what lies beyond a one-sided parameter's neutral end moves nothing
    moved = space.to_action(values)[0].abs().numpy()
    furthest = [number for number in np.argsort(-moved)[:count] if moved[number] > LEAST_MOVED]
    return "\n".join(
        f"{space.names[number]} {values[0, number]:+.2f} {space.parameters[number].unit}".rstrip()
        for number in sorted(furthest)
    )


def _pixels(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).clamp(0, 1) * 255.0).round().to(torch.uint8).cpu().numpy()
