"""How well attribute heads and score follow distortions of photographs: the checks behind the model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from attiqa.distortions import DISTORTIONS
from attiqa.ranks import spearman_matrix

Assess = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

STEPS = 11  # levels between the ends of a distortion's range, both included


def graded(image: torch.Tensor, name: str, steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One photograph ``(3, H, W)`` at equally spaced levels of one distortion; the images and the levels."""
    levels = torch.linspace(-1, DISTORTIONS[name].high, steps)
    versions = image.unsqueeze(0).expand(steps, -1, -1, -1)
    return DISTORTIONS[name](versions, levels, torch.Generator().manual_seed(seed)), levels


def cross_talk(
    assess: Assess, photographs: Sequence[torch.Tensor], attributes: Sequence[str], steps: int = STEPS
) -> dict[str, torch.Tensor]:
    """Grade each photograph along each attribute's own distortion and see which heads follow.

    Args:
        assess: ``(B, 3, H, W)`` to quality ``(B,)`` and attributes ``(B, K)``.
        photographs: float32 ``(3, H, W)`` each, display sRGB, at the size at which they are distorted.
        attributes: the K attribute names, which are names of distortions too.
        steps: levels over each distortion's whole range.

    Returns:
        ``srocc`` ``(K, K)``: mean over photographs of the SROCC of head (row) with the level of distortion
        (column); ``swing`` ``(K, K)``: mean range of head (row) along distortion (column), divided by its
        range along its own. Ranks alone exaggerate cross-talk: a head that drifts by a hair has an SROCC
        of 1 all the same.
    """
    K = len(attributes)
    srocc, swing = torch.zeros(K, K, dtype=torch.float64), torch.zeros(K, K, dtype=torch.float64)
    for index, photograph in enumerate(photographs):
        for column, name in enumerate(attributes):
            images, levels = graded(photograph, name, steps, seed=index)
            values = assess(images)[1].float().cpu().T.contiguous()
            srocc[:, column] += torch.from_numpy(spearman_matrix(values, levels)) / len(photographs)
            swing[:, column] += (values.amax(1) - values.amin(1)) / len(photographs)
    return {"srocc": srocc, "swing": swing / swing.diagonal().unsqueeze(1)}


def pristine_preference(
    assess: Assess, photographs: Sequence[torch.Tensor], levels: Sequence[float] = (0.25, 0.5, 1.0)
) -> dict[str, dict[str, float]]:
    """How often a photograph scores above its distorted versions.

    Returns:
        Distortion end (``brightness-``, ``brightness+`` ...) to the rate at each strength.
    """
    rates: dict[str, dict[str, float]] = {}
    for name, distortion in DISTORTIONS.items():
        for sign in (-1, 1) if distortion.two_sided else (-1,):
            wins = torch.zeros(len(levels))
            for index, photograph in enumerate(photographs):
                versions = photograph.unsqueeze(0).expand(len(levels) + 1, -1, -1, -1)
                strengths = torch.tensor([0.0, *(sign * level for level in levels)])
                generator = torch.Generator().manual_seed(index)
                quality = assess(distortion(versions, strengths, generator))[0].cpu()
                wins += (quality[0] > quality[1:]).float() / len(photographs)
            key = name + ("-" if sign < 0 else "+")
            rates[key] = {str(level): round(float(rate), 4) for level, rate in zip(levels, wins, strict=True)}
    return rates
