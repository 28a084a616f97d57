"""What a reward is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch


class Reward(Protocol):
    """A batch of images in, one number each out; no gradient, and it need not be a torch module."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Score float32 ``(B, 3, H, W)`` display sRGB in [0, 1]; returns ``(B,)``, higher is better."""


class ReferencedReward(Protocol):
    """A reward that also looks at the neutral render of the same scenes, to punish going too far from it.

    It is told apart from a plain `Reward` by ``uses_reference = True``.
    """

    uses_reference: bool

    def __call__(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Score `images` given `reference`, both float32 ``(B, 3, H, W)`` display sRGB; returns ``(B,)``."""


@runtime_checkable
class PartedReward(Protocol):
    """A `ReferencedReward` that also says what it is made of, for those who climb it.

    It is the mean of its `part_count` parts, minus `deviations` of their standard deviations (the
    population's), minus a charge. Parts are gains in a score, zero at the reference itself; a charge
    is known of a render without a score. The mixture has edges where two parts change places or a charge
    begins; the parts have none there.
    """

    deviations: float

    @property
    def part_count(self) -> int:
        """K, the number of parts."""

    def apart(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Its parts: ``(B, K)`` for images and references ``(B, 3, H, W)``."""

    def charge(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """What is taken off: ``(B,)``, not negative, for images and references of any one size."""


def together(parts: torch.Tensor, deviations: float) -> torch.Tensor:
    """The reward ``(...)`` whose parts are ``(..., K)``, before its charge."""
    return parts.mean(dim=-1) - deviations * parts.std(dim=-1, correction=0)
