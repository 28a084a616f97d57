"""CLIP-IQA (Wang, Chan and Loy, AAAI 2023, arXiv 2207.12396), a peer behind the scorer contract.

It asks a frozen CLIP for the share of "Good photo." against "Bad photo." (Eq. 3 there). Its image tower runs
without the positional embedding, so that images keep their size.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.labels import antonym_differences
from attiqa.errors import InputError

GOOD, BAD = "Good photo.", "Bad photo."

Tower = TypeVar("Tower", bound=nn.Module)


class ClipIqa:
    """Quality of images as CLIP sees it; a scorer and a `Reward`.

    Attributes:
        logit_scale: inverse temperature of the softmax over the pair.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        positive: str | torch.Tensor = GOOD,
        negative: str | torch.Tensor = BAD,
        positional_embedding: bool = False,
    ) -> None:
        """Prepare the two text embeddings and the image tower.

        Args:
            encoder: CLIP; the paper uses RN50 with OpenAI's weights.
            positive, negative: sentences, or unit vectors ``(D,)`` as CLIP-IQA+ learns them.
            positional_embedding: keep it, and shrink every image to the input that CLIP was trained at.
                Without it (section 3.2 there) images of any size go in as they are.
        """
        self.logit_scale = encoder.logit_scale
        self._encoder = encoder
        self._sides = [
            encoder.embed_texts([side])[0] if isinstance(side, str) else side.to(encoder.device)
            for side in (positive, negative)
        ]
        self._tower = None if positional_embedding else without_positions(encoder.model.visual)

    @torch.inference_mode()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Unit vectors ``(B, D)`` of float32 ``(B, 3, H, W)``, display sRGB in [0, 1]."""
        images = images.to(self._encoder.device)
        if self._tower is None:
            return self._encoder.embed_images(images)
        return F.normalize(self._tower(self._encoder.preprocess.normalise(images)).float(), dim=-1)

    def score(self, images: torch.Tensor) -> torch.Tensor:
        """Score float32 ``(B, 3, H, W)``, display sRGB in [0, 1]: ``(B,)`` in [0, 1], higher is better."""
        positive, negative = (side[None] for side in self._sides)
        difference = antonym_differences(self.embed(images), positive, negative)[:, 0]
        return torch.sigmoid(self.logit_scale * difference)

    __call__ = score


def without_positions(tower: Tower) -> Tower:
    """A copy of an image tower whose positional embedding is one zero row, which broadcasts to any size."""
    tower = copy.deepcopy(tower)
    owner = getattr(tower, "attnpool", tower)  # the ResNets have it in their attention pooling
    positions = getattr(owner, "positional_embedding", None)
    if not isinstance(positions, nn.Parameter):
        raise InputError(
            "this CLIP's image tower has no positional embedding of its own to leave out; "
            "use positional_embedding=True or one of OpenAI's architectures."
        )
    owner.positional_embedding = nn.Parameter(torch.zeros_like(positions[:1]), requires_grad=False)
    return tower
