"""Batches of overlapping crops under growing degradation, as QualiCLIP trains on (arXiv 2403.11176)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attiqa.distortions import DISTORTIONS, distort
from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.threads import thread_pool
from attiqa.training.distorted import LabelledBatch
from attiqa.training.processes import Processes
from attiqa.training.store import Entry
from attiqa.views import resize


class Photographs:
    """Photographs that are decoded when they are asked for; what can't be read is named in `failures`."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        if not entries:
            raise InputError(
                "there is no photograph to train on; give more images or a smaller --validation."
            )
        self.entries = entries
        self.failures: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, first: int) -> torch.Tensor:
        """Photograph `first`, or the next one that can be read: float32 ``(1, 3, H, W)``, display sRGB."""
        for index in range(first, first + len(self.entries)):
            entry = self.entries[index % len(self.entries)]
            if entry.key in self.failures:
                continue
            try:
                return to_float(entry.read()).unsqueeze(0)
            except (InputError, OSError) as error:
                self.failures[entry.key] = str(error)
        raise InputError(
            f"none of {len(self.entries)} photographs could be read; {self.entries[0].key} first."
        )


class CropPairBatches:
    """Two overlapping crops of each of `scenes` photographs at `levels` strengths of one degradation.

    Batch `step` is a function of the seed and the step alone. Photographs are drawn at random and decoded at
    their own resolution, where noise and blur are not averaged away; for one that cannot be read, the next in
    the list stands in. Each photograph is degraded by `kinds` of `degradations` at once, at strengths from
    ``1 / levels`` to 1; those that have two sides take either. Which ones there are is our choice.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        scenes: int = 16,
        levels: int = 5,
        kinds: int = 1,
        degradations: Sequence[str] = tuple(DISTORTIONS),
        side: int = 224,
        seed: int = 0,
        workers: int = 2,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        if scenes % self.processes.count:
            raise InputError(f"{scenes} scenes do not divide among {self.processes.count} processes.")
        unknown = sorted(set(degradations) - DISTORTIONS.keys())
        if unknown:
            raise InputError(f"there is no degradation {unknown[0]!r}; there are {', '.join(DISTORTIONS)}.")
        if levels < 2 or not 1 <= kinds <= len(degradations):
            raise InputError(
                f"expected at least 2 levels and 1 to {len(degradations)} kinds of degradation at once; "
                f"got {levels} and {kinds}."
            )
        self.photographs = Photographs(entries)
        self.degradations = tuple(degradations)
        self.scenes, self.levels, self.kinds, self.side, self.seed = scenes, levels, kinds, side, seed
        self.pool = thread_pool(workers)

    def __call__(self, step: int) -> LabelledBatch:
        """This process's images, scene by scene, mild to strong, both crops of a level side by side.

        Returns:
            images ``(scenes_local * levels * 2, 3, side, side)``, and as labels ``(..., 1)`` their strength,
            negative.
        """
        own = range(self.scenes)[self.processes.slice(self.scenes)]
        images = torch.cat(list(self.pool.map(self._scene, [step] * len(own), own)))
        strength = -torch.arange(1, self.levels + 1).repeat_interleave(2) / self.levels
        return LabelledBatch(images, strength.repeat(len(own)).unsqueeze(1))

    def _scene(self, step: int, place: int) -> torch.Tensor:
        """``(levels * 2, 3, side, side)`` of one photograph."""
        number = (self.seed * 1_000_003 + step) * 1_000_003 + place
        generator = torch.Generator().manual_seed(number)
        first = int(torch.randint(len(self.photographs), (1,), generator=generator))
        crops = overlapping_crops(self.photographs.read(first), self.side, generator)
        names = self.degradations
        chosen = torch.randperm(len(names), generator=generator)[: self.kinds].tolist()
        upwards = (torch.rand(self.kinds, generator=generator) < 0.5).tolist()
        strength = torch.arange(1, self.levels + 1).repeat_interleave(2) / self.levels
        levels = {
            names[index]: strength if up and DISTORTIONS[names[index]].two_sided else -strength
            for index, up in zip(chosen, upwards, strict=True)
        }
        return distort(crops.repeat(self.levels, 1, 1, 1), levels, generator)


def overlapping_crops(image: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Two random squares of a photograph that share at least a quarter of their area (our choice).

    Args:
        image: float32 ``(1, 3, H, W)``, display sRGB; enlarged where it is smaller than `side`.
        side: of the squares.
        generator: of their places.

    Returns:
        float32 ``(2, 3, side, side)``, display sRGB in [0, 1].
    """
    height, width = image.shape[-2:]
    scale = max(1.0, side / min(height, width))
    pixels = resize(image, max(side, round(height * scale)), max(side, round(width * scale)))[0]
    draw = torch.rand(2, 2, generator=generator).tolist()
    corners = []
    for axis, length in enumerate(pixels.shape[1:]):
        room = length - side
        start = int(draw[0][axis] * (room + 1))
        low, high = max(0, start - side // 2), min(room, start + side // 2)
        corners.append((start, low + int(draw[1][axis] * (high - low + 1))))
    return torch.stack([pixels[:, y : y + side, x : x + side] for y, x in zip(*corners, strict=True)])
