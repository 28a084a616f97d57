"""Tone in linear sRGB: highlights, shadows, whites, blacks over an edge-aware base layer; the tone mapper."""

from __future__ import annotations

import torch
from torch import Tensor

from isp_env.filters import guided_coefficients, luminance, per_image, radius_in_pixels, shrink

GRID = 64  # short side of the measuring grid of base layer and haze
_RADIUS = 0.05  # of the short side
_FLAT = 0.01  # variance of lightness: steps above about 0.1 count as edges

# Stops at the end of each range; they fall off with the 2nd (highlights, shadows), 3rd (whites) and 6th
# (blacks) power of lightness or darkness. Our choice: all four together stay monotone
_HIGHLIGHTS, _WHITES, _SHADOWS, _BLACKS = 0.7, 0.5, 1.5, 1.0


def lightness(light: Tensor) -> Tensor:
    """Square root of luminance clipped to [0, 1], any shape.

    A cheap perceptual scale: middle grey (0.18) lies at 0.42.
    """
    return light.clamp(0.0, 1.0).sqrt_()


def base_maps(image: Tensor) -> Tensor:
    """Measure the edge-aware base layer: ``(B, 3, H, W)`` linear sRGB to coefficients ``(B, 2, h, w)``."""
    grid = lightness(shrink(luminance(image), GRID))
    return guided_coefficients(grid, grid, radius_in_pixels(grid, _RADIUS), _FLAT)


def base_layer(light: Tensor, planes: Tensor) -> Tensor:
    """Lightness without its texture, in [0, 1]; the edges of regions stay.

    Args:
        light: ``(B, 1, H, W)``, luminance.
        planes: ``(B, 2, H, W)``, its `base_maps` enlarged.
    """
    a, b = planes.split(1, dim=1)
    return (lightness(light) * a).add_(b).clamp_(0.0, 1.0)


def tone_regions(image: Tensor, planes: Tensor, amounts: Tensor) -> Tensor:
    """Brighten or darken regions by how bright they are; texture within a region keeps its contrast.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB.
        planes: ``(B, 2, H, W)``, its `base_maps` enlarged.
        amounts: ``(B, 4)``: highlights, shadows, whites, blacks, in [-1, 1]; 0 leaves the image as it is.
    """
    return image * region_gain(base_layer(luminance(image), planes), amounts)


def region_gain(base: Tensor, amounts: Tensor) -> Tensor:
    """What `tone_regions` multiplies light by, from the base layer ``(B, 1, H, W)``."""
    highlights, shadows, whites, blacks = amounts.unbind(dim=1)
    bright, dark = base.square(), (1.0 - base).square_()
    stops = (base * per_image(_WHITES * whites)).add_(per_image(_HIGHLIGHTS * highlights)).mul_(bright)
    deep = dark.square().mul_(per_image(_BLACKS * blacks)).add_(per_image(_SHADOWS * shadows))
    return stops.addcmul_(dark, deep).exp2_()


def tone_map(image: Tensor, strength: Tensor) -> Tensor:
    """Compress the range of brightness: lift dark and middle tones and keep white where it is.

    Reinhard et al., "Photographic Tone Reproduction", SIGGRAPH 2002, Eq. 4, with the white point at 1 after a
    push of p = 4^strength: luminance L becomes ``L (p + L) / (1 + p L)``; colours keep their ratios.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB from 0, unbounded.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.
    """
    return image * tone_map_gain(luminance(image), strength)


def tone_map_gain(light: Tensor, strength: Tensor) -> Tensor:
    """What `tone_map` multiplies light by, from luminance ``(B, 1, H, W)`` from 0."""
    push = per_image(torch.exp2(2.0 * strength))
    return (light + push).div_((light * push).add_(1.0))
