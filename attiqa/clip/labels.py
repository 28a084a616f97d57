"""Attribute scores from CLIP embeddings (ATTIQA, Kwon et al., ACCV 2024, section 3.2, Eq. 1 and 2).

All scores are float32 whatever the cache holds: the softmax of an antonym pair saturates, and saturated
probabilities are ties that the ranking loss then cannot use. Ranking needs only the difference of cosines.
"""

from __future__ import annotations

import torch

from attiqa.attributes import AttributeSet
from attiqa.clip.embedding import ClipEncoder


def text_pairs(encoder: ClipEncoder, attributes: AttributeSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed each attribute's two sentences: positive and negative, float32 ``(A, D)`` unit vectors each."""
    positive, negative = zip(*map(attributes.prompts, attributes.attributes), strict=True)
    return encoder.embed_texts(positive), encoder.embed_texts(negative)


def cosine_scores(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Eq. 1: cosine similarity of unit vectors ``(N, D)`` and ``(T, D)``, float32 ``(N, T)``."""
    return images.float() @ texts.float().T


def antonym_differences(images: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """``s_pos - s_neg`` per attribute: Eq. 2 is monotone in it, and it makes no false ties.

    Args:
        images: unit vectors ``(N, D)``, any float dtype.
        positive, negative: unit vectors ``(A, D)``.

    Returns:
        float32 ``(N, A)`` in [-2, 2].
    """
    return cosine_scores(images, positive.float() - negative.float())


def antonym_probabilities(
    images: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, logit_scale: float = 100.0
) -> torch.Tensor:
    """Eq. 2, CLIP-IQA's score (Wang et al., AAAI 2023): softmax over the antonym pair, the positive's share.

    Args:
        images: unit vectors ``(N, D)``.
        positive, negative: unit vectors ``(A, D)``.
        logit_scale: inverse temperature; OpenAI's CLIP was trained to 100 (`ClipEncoder.logit_scale`).

    Returns:
        float32 ``(N, A)`` in [0, 1].
    """
    return torch.sigmoid(logit_scale * antonym_differences(images, positive, negative))
