"""Tone in linear sRGB: highlights, shadows, whites, blacks over an edge-aware base layer; the tone mapper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isp_env.filters import (
    Window,
    enlarge,
    guided_coefficients,
    luminance,
    per_image,
    radius_in_pixels,
    shrink,
)

_GRID = 64  # short side of the measuring grid
_RADIUS = 0.05  # of the short side
_FLAT = 0.01  # variance of lightness: steps above about 0.1 count as edges

# Stops at the end of each range; they fall off with the 2nd (highlights, shadows), 3rd (whites) and 6th
# (blacks) power of lightness or darkness. Our choice: all four together stay monotone
_HIGHLIGHTS, _WHITES, _SHADOWS, _BLACKS = 0.7, 0.5, 1.5, 1.0


def lightness(image: Tensor) -> Tensor:
    """Square root of luminance clipped to [0, 1]: ``(B, 3, H, W)`` linear sRGB to ``(B, 1, H, W)``.

    A cheap perceptual scale: middle grey (0.18) lies at 0.42.
    """
    return luminance(image).clamp_(0.0, 1.0).sqrt_()


def base_maps(image: Tensor) -> Tensor:
    """Measure the edge-aware base layer: ``(B, 3, H, W)`` linear sRGB to coefficients ``(B, 2, h, w)``."""
    grid = shrink(luminance(image), _GRID).clamp_(0.0, 1.0).sqrt_()
    return guided_coefficients(grid, grid, radius_in_pixels(grid, _RADIUS), _FLAT)


def base_layer(light: Tensor, maps: Tensor, window: Window | None = None) -> Tensor:
    """Lightness ``(B, 1, H, W)`` without its texture, in [0, 1]; edges between regions stay."""
    a, b = enlarge(maps, light, window).split(1, dim=1)
    return (a * light).add_(b).clamp_(0.0, 1.0)


def tone_regions(
    image: Tensor,
    maps: Tensor,
    amounts: Sequence[Tensor],
    window: Window | None = None,
) -> Tensor:
    """Brighten or darken regions by how bright they are; texture within a region keeps its contrast.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB, the whole or a strip.
        maps: from `base_maps` of the whole.
        amounts: highlights, shadows, whites, blacks, each ``(B,)`` in [-1, 1]; 0 leaves the image as it is.
        window: where the strip lies.
    """
    base = base_layer(lightness(image), maps, window)
    highlights, shadows, whites, blacks = amounts
    bright, dark = base.square(), (1.0 - base).square_()
    stops = bright * (base * per_image(_WHITES * whites)).add_(per_image(_HIGHLIGHTS * highlights))
    stops += dark * (dark.square() * per_image(_BLACKS * blacks)).add_(per_image(_SHADOWS * shadows))
    return image * stops.exp2_()


def tone_map(image: Tensor, strength: Tensor) -> Tensor:
    """Compress the range of brightness: lift dark and middle tones and keep white where it is.

    Reinhard et al., "Photographic Tone Reproduction", SIGGRAPH 2002, Eq. 4, with the white point at 1 after a
    push of p = 4^strength: luminance L becomes ``L (p + L) / (1 + p L)``; colours keep their ratios.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB from 0, unbounded.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.
    """
    push = per_image(torch.exp2(2.0 * strength))
    light = luminance(image)
    return image * ((light + push) / (light * push + 1.0))
