"""What a reward is."""

from __future__ import annotations

from typing import Protocol

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
