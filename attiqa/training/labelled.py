"""Batches of images with labels from a table: CLIP scores or anything else that ranks images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.threads import thread_pool
from attiqa.training.distorted import LabelledBatch
from attiqa.training.photographs import random_square
from attiqa.training.processes import Processes
from attiqa.training.store import Entry


class LabelledBatches:
    """Shuffled epochs of labelled images as random crops; batch `step` depends on seed and step alone.

    Decoding runs on threads (Pillow and torch release the interpreter lock). An image that cannot be decoded
    is left out: its row is black, its labels are unknown, and `failures` names it.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        labels: torch.Tensor,
        *,
        batch: int = 32,
        side: int = 224,
        seed: int = 0,
        workers: int = 2,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        if len(entries) < batch or batch % self.processes.count:
            raise InputError(
                f"a batch of {batch} needs at least as many images (there are {len(entries)}) and a multiple "
                f"of {self.processes.count} processes; change --batch."
            )
        self.entries, self.labels = entries, labels.float()
        self.batch, self.side, self.seed = batch, side, seed
        self.pool = thread_pool(workers)
        self.failures: dict[str, str] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the images."""
        return len(self.entries) // self.batch

    def __call__(self, step: int) -> LabelledBatch:
        """This process's images ``(B_local, 3, side, side)`` and labels ``(B_local, K)``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        shuffled = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.entries), generator=shuffled)
        rows = order[place * self.batch : (place + 1) * self.batch]
        own = rows[self.processes.slice(self.batch)]
        images = list(self.pool.map(self._crop, own.tolist(), [step] * len(own)))
        known = torch.tensor([image is not None for image in images])
        blank = torch.zeros(3, self.side, self.side)
        stacked = torch.stack([blank if image is None else image for image in images])
        labels = self.labels[own].clone()
        labels[~known] = torch.nan
        return LabelledBatch(stacked, labels)

    def _crop(self, row: int, step: int) -> torch.Tensor | None:
        entry = self.entries[row]
        try:
            image = to_float(entry.read()).unsqueeze(0)
        except (InputError, OSError) as error:
            self.failures[entry.key] = str(error)
            return None
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 1_000_003 + row)
        return random_square(image, self.side, generator)
