"""Numbers of frames that are measured when they are first asked for, and kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.progress import progress_bar


class KeptRows:
    """A row of numbers a frame.

    Args:
        shape: ``(F, ...)``, of all rows.
        measure: frame numbers int64 ``(b,)`` to their rows ``(b, ...)``.
        block: how many frames are measured at once: blocks do not depend on who asks when, as a network's
            last bits depend on the batch.
        what: said beside the progress.
        device: where rows are kept.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        measure: Callable[[np.ndarray], torch.Tensor],
        block: int,
        what: str,
        device: torch.device,
    ) -> None:
        self._rows = torch.zeros(shape, device=device)
        self._known = np.zeros(shape[0], dtype=bool)
        self._measure, self._block, self._what = measure, block, what

    def knows(self, frames: np.ndarray) -> bool:
        """Whether the rows of all of these frames are there."""
        return bool(self._known[frames].all())

    def of(self, frames: np.ndarray) -> torch.Tensor:
        """The rows of frames int64 ``(B,)``: ``(B, ...)``."""
        blocks = np.unique(frames[~self._known[frames]] // self._block).tolist()
        for number in progress_bar(blocks, self._what, delay=2.0, leave=False):
            first = number * self._block
            block = np.arange(first, min(first + self._block, len(self._known)))
            self._rows[first : first + len(block)] = self._measure(block)
            self._known[block] = True
        return self._rows[torch.as_tensor(frames, device=self._rows.device)]

    def take(self, rows: torch.Tensor) -> None:
        """Take `rows` for what would be measured of all frames; `InputError` for another shape."""
        if rows.shape != self._rows.shape:
            raise InputError(
                f"rows of the shape {tuple(self._rows.shape)} are wanted; these have {tuple(rows.shape)}."
            )
        self._rows = rows.to(self._rows)
        self._known[:] = True
