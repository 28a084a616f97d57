"""Timing: repeats, their best and their spread, and rates as shares of a limit, on the CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.tables import markdown, number


@dataclass(frozen=True)
class Timing:
    """Seconds of several repeats of one thing.

    Attributes:
        best: the fastest repeat: what the machine can do when nothing else runs on it.
        median: the repeat in the middle.
        spread: interquartile range over median.
        repeats: how many.
        seconds: each of them, in order.
    """

    best: float
    median: float
    spread: float
    repeats: int
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise repeats."""
        low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        spread = float((high - low) / median)
        return cls(min(seconds), float(median), spread, len(seconds), tuple(seconds))

    def record(self, items: int = 1) -> dict[str, Any]:
        """The timing as JSON values, and milliseconds for each of the `items` that one repeat handles."""
        return {**asdict(self), "milliseconds_an_item": 1000.0 * self.best / items}


@dataclass(frozen=True)
class Figure:
    """A rate beside the limit that it cannot pass, both timed in turns.

    Attributes:
        name: what was timed.
        unit: what it handles, such as images.
        items: how many of them a repeat handles.
        timing: its repeats.
        limit_name: what bounds it.
        limit: the limit's repeats, each measured right after one of `timing`.
        limit_items: how many a repeat of the limit handles.
    """

    name: str
    unit: str
    items: float
    timing: Timing
    limit_name: str
    limit: Timing
    limit_items: float

    @property
    def shares(self) -> np.ndarray:
        """The rate as a share of the limit's, repeat by repeat: what else ran then slowed both alike."""
        one = np.array(self.timing.seconds) / self.items
        return np.array(self.limit.seconds) / self.limit_items / one

    def record(self) -> dict[str, Any]:
        """The figure as JSON values."""
        low, median, high = np.quantile(self.shares, [0.25, 0.5, 0.75]).tolist()
        return {
            "name": self.name,
            "unit": self.unit,
            "rate": self.items / self.timing.best,
            "limit": self.limit_name,
            "limit_rate": self.limit_items / self.limit.best,
            "share": median,
            "share_quartiles": [low, high],
            "timing": self.timing.record(),
            "limit_timing": self.limit.record(),
        }


def measure(run: Callable[[], Any], repeats: int, device: torch.device | str = "cpu") -> Timing:
    """Time `run`, after one call to warm up; a GPU's queue is waited for on either side."""
    return in_turns({"it": run}, repeats, device)["it"]


def in_turns(
    runs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device | str = "cpu"
) -> dict[str, Timing]:
    """Time several things turn by turn, so that a machine that slows down slows them all."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing.of(values) for name, values in seconds.items()}


def figures_beside(
    runs: Mapping[str, Callable[[], Any]],
    limit_name: str,
    limit: Callable[[], Any],
    *,
    unit: str,
    items: float,
    repeats: int,
    device: torch.device | str = "cpu",
) -> list[Figure]:
    """Time `runs` and the limit that bounds them all, in turns; each of them handles the same items."""
    timings = in_turns({**runs, limit_name: limit}, repeats, device)
    return [Figure(name, unit, items, timings[name], limit_name, timings[limit_name], items) for name in runs]


def figures_table(title: str, figures: Sequence[Figure]) -> str:
    """Rates, their spread, their limits, and the share of the limit with its quartiles."""
    rows = []
    for item in figures:
        low, median, high = np.quantile(item.shares, [0.25, 0.5, 0.75]) * 100
        rate, bound = item.items / item.timing.best, item.limit_items / item.limit.best
        own = [item.name, f"{_rate(rate)} {item.unit}/s", f"{100 * item.timing.spread:.0f} %"]
        rows.append([*own, item.limit_name, _rate(bound), f"{median:.0f} % [{low:.0f}, {high:.0f}]"])
    return markdown([title, "best rate", "spread", "limit", "its rate", "share of limit"], rows)


def _rate(value: float) -> str:
    return number(value, 0 if value >= 100 else 2)
