"""Gain against evaluations on the same frames: searches as lines, policies as points; a CSV and a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from agents.evaluation import Bench, Outcome
from agents.search import Floats
from attiqa.files import atomic_path


@dataclass(frozen=True)
class Point:
    """The mean gain of one method after so many evaluations.

    Attributes:
        method: its name.
        kind: ``search`` or ``policy``.
        evaluations: renders spent on each frame.
        gain: over the neutral render, mean over frames.
        low, high: 95 % bootstrap interval of it over scenes.
    """

    method: str
    kind: str
    evaluations: int
    gain: float
    low: float
    high: float


def search_points(method: str, curve: Floats, bench: Bench) -> list[Point]:
    """What a search had found after 1, 2, 4, 8, ... evaluations and at its end.

    Args:
        method: its name.
        curve: ``(F, N)``, the best gain of each frame after each evaluation.
        bench: of these frames.
    """
    evaluations = curve.shape[1]
    counts = [2**power for power in range(evaluations.bit_length()) if 2**power < evaluations]
    points = []
    for count in [*counts, evaluations]:
        gains = curve[:, count - 1]
        points.append(Point(method, "search", count, float(gains.mean()), *bench.interval(gains)))
    return points


def policy_point(method: str, outcome: Outcome, bench: Bench) -> Point:
    """What a policy reaches with the renders of one episode, or of its first looks."""
    gain = float(outcome.gains.mean())
    return Point(method, "policy", outcome.evaluations, gain, *bench.interval(outcome.gains))


def write_curve(path: Path, points: Sequence[Point]) -> None:
    """Write the points as CSV, one a row, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)


def draw_curve(path: Path, points: Sequence[Point], title: str) -> None:
    """Draw the points, evaluations on a logarithmic axis, atomically; `path` is a PNG."""
    figure = Figure(figsize=(7.5, 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # needs no display
    axes = figure.add_subplot()
    for number, method in enumerate(dict.fromkeys(point.method for point in points)):
        own = [point for point in points if point.method == method]
        counts, gains = [point.evaluations for point in own], [point.gain for point in own]
        lows, highs = [point.low for point in own], [point.high for point in own]
        label, color = f"{method.replace('_', ' ')} ({counts[-1]})", f"C{number}"
        if own[0].kind == "search":
            axes.plot(counts, gains, "-", color=color, label=label)
            axes.fill_between(counts, lows, highs, color=color, alpha=0.13, linewidth=0)
        else:
            errors = [np.subtract(gains, lows), np.subtract(highs, gains)]
            axes.errorbar(counts, gains, errors, fmt="*:", color=color, label=label, markersize=9, capsize=3)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(xlabel="evaluations a frame", ylabel="gain over the neutral render")
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
