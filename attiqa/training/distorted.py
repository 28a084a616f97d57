"""Batches labelled by distortion: several versions of each scene, each attribute at a level of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from attiqa.distortions import DISTORTIONS, distort
from attiqa.errors import InputError
from attiqa.training.photographs import PhotographPool
from attiqa.training.processes import Processes

NEAREST = 0.15  # pairs that differ by less than this sum of levels have no quality order


@dataclass(frozen=True)
class LabelledBatch:
    """What one training step sees.

    Attributes:
        images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1]; this process's share of the batch.
        labels: ``(B, K)`` attribute labels, NaN where unknown; only their order counts.
        order: of the whole batch, ``(B, B)`` in {-1, 0, 1}, the quality order of pairs, or ``None``.
    """

    images: torch.Tensor
    labels: torch.Tensor
    order: torch.Tensor | None = None


class DistortedBatches:
    """Random batches of distorted photographs; batch `step` is a function of the seed and the step alone.

    A batch holds `versions` of each of `scenes` photographs: the first as it is, two along one random
    direction of one to three distortions (mild, then strong), the others with every attribute distorted
    independently half of the time. Independence keeps the heads apart; versions of one scene make them
    rank within a scene.

    `judged` names the distortions whose levels say which version is better. Only those make the chain of
    mild and strong, and pairs that differ in any other have no quality order.
    """

    def __init__(
        self,
        pool: PhotographPool,
        attributes: Sequence[str],
        *,
        scenes: int = 8,
        versions: int = 6,
        side: int = 192,
        seed: int = 0,
        judged: Collection[str] = tuple(DISTORTIONS),
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        if scenes * versions % self.processes.count:
            raise InputError(
                f"a batch of {scenes} x {versions} images does not divide among {self.processes.count}."
            )
        self.pool, self.attributes = pool, tuple(attributes)
        self.scenes, self.versions, self.side, self.seed = scenes, versions, side, seed
        self.unjudged = [k for k, name in enumerate(DISTORTIONS) if name not in judged]

    def __call__(self, step: int) -> LabelledBatch:
        """The batch of one step: ``scenes * versions`` images, versions of a scene side by side."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randint(len(self.pool), (self.scenes,), generator=generator).tolist()
        crops = torch.stack([self.pool.crop(index, self.side, generator) for index in chosen])
        levels = self._levels(generator)
        columns = {name: levels[:, k] for k, name in enumerate(DISTORTIONS)}
        images = distort(crops.repeat_interleave(self.versions, 0), columns, generator)
        scene = torch.arange(self.scenes).repeat_interleave(self.versions)
        labels = torch.stack([columns[name] for name in self.attributes], dim=1)
        # airlight lowers contrast and saturation by an amount that depends on the scene: unknown, not zero
        hazy = columns["haze"] != 0
        for k, name in enumerate(self.attributes):
            if name in ("contrast", "colorfulness", "brightness"):
                labels[hazy, k] = torch.nan
        own = self.processes.slice(len(images))
        return LabelledBatch(images[own], labels[own], self._order(levels, scene))

    def _order(self, levels: torch.Tensor, scene: torch.Tensor) -> torch.Tensor:
        other = levels[:, self.unjudged]
        alike = (other.unsqueeze(0) == other.unsqueeze(1)).all(-1)
        return severity_order(levels, scene) * alike

    def _levels(self, generator: torch.Generator) -> torch.Tensor:
        """``(scenes * versions, distortions)`` levels."""
        S, V, D = self.scenes, self.versions, len(DISTORTIONS)
        direction = random_levels(S, generator)
        count = torch.randint(1, 4, (S, 1), generator=generator)
        draw = torch.rand(S, D, generator=generator)
        draw[:, self.unjudged] = 2.0  # behind all others
        among = draw.argsort(1).argsort(1) < count
        among[:, self.unjudged] = False
        direction = direction * among
        mild = 0.2 + 0.5 * torch.rand(S, 1, generator=generator)
        free = random_levels(S * (V - 3), generator).view(S, V - 3, D)
        extras = torch.tensor([name not in self.attributes for name in DISTORTIONS])
        chance = torch.where(extras, 0.12, 0.5)
        free = free * (torch.rand(free.shape, generator=generator) < chance)
        chain = torch.stack([torch.zeros_like(direction), mild * direction, direction], dim=1)
        return torch.cat([chain, free], dim=1).flatten(0, 1)


def random_levels(count: int, generator: torch.Generator) -> torch.Tensor:
    """``(count, distortions)`` levels over each distortion's range, small ones the more frequent."""
    draw = torch.rand(count, len(DISTORTIONS), generator=generator)
    two_sided = torch.tensor([distortion.two_sided for distortion in DISTORTIONS.values()])
    signed = torch.where(two_sided, 2 * draw - 1, -draw)
    return signed.sign() * signed.abs() ** 1.3


def severity_order(levels: torch.Tensor, scene: torch.Tensor, nearest: float = NEAREST) -> torch.Tensor:
    """Which of two versions of a scene must look better, where that is certain.

    Version i beats j if no distortion of i is stronger than, or opposite to, that of j, and together they
    are weaker by at least `nearest`. Our choice: the photograph itself is the best of its versions, so the
    score has its maximum at a natural look and falls off to both sides.

    Args:
        levels: ``(B, D)`` signed levels.
        scene: ``(B,)`` scene numbers.

    Returns:
        ``(B, B)`` float32 in {-1, 0, 1}; +1 where the row beats the column.
    """
    strength = levels.abs()
    weaker = (strength.unsqueeze(1) <= strength.unsqueeze(0) + 1e-6).all(-1)
    agreeing = (levels.unsqueeze(1) * levels.unsqueeze(0) >= 0).all(-1)
    gap = strength.sum(1).unsqueeze(0) - strength.sum(1).unsqueeze(1) >= nearest
    beats = weaker & agreeing & gap & (scene.unsqueeze(1) == scene.unsqueeze(0))
    return beats.float() - beats.T.float()
