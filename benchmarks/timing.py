"""Timing: repeats, their best and their spread, on the CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of several repeats of one thing.

    Attributes:
        best: the fastest repeat: what the machine can do when nothing else runs on it.
        median: the repeat in the middle.
        spread: interquartile range over median.
        repeats: how many.
    """

    best: float
    median: float
    spread: float
    repeats: int

    def record(self, items: int = 1) -> dict[str, Any]:
        """The timing as JSON values, and milliseconds for each of the `items` that one repeat handles."""
        return {**asdict(self), "milliseconds_an_item": 1000.0 * self.best / items}


def measure(run: Callable[[], Any], repeats: int, device: torch.device | str = "cpu") -> Timing:
    """Time `run`, after one call to warm up; a GPU's queue is waited for on either side."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds = []
    for repeat in range(repeats + 1):
        wait()
        start = time.perf_counter()
        run()
        wait()
        if repeat:
            seconds.append(time.perf_counter() - start)
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(min(seconds), float(median), float((high - low) / median), repeats)
