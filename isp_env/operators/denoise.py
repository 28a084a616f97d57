"""Denoising in linear light, edge-preserving."""

from __future__ import annotations

import torch
from torch import Tensor

from isp_env.filters import (
    Window,
    box_mean,
    enlarge,
    guided_coefficients,
    per_image,
    radius_in_pixels,
    shrink,
)

_GRID = 128  # short side of the measuring grid: averaging down to it takes off the finest noise already
_RADIUS = 0.008  # of the short side: one pixel of the grid

# Variance that counts as noise at full strength, (shot * mean + read) as for a Poisson-Gaussian sensor
# (Foi et al., TIP 2008); the levels are our choice: 2 % of white at middle grey, 0.3 % in black
_SHOT, _READ = 2e-3, 1e-5
_CHROMA = 4.0  # colour noise is coarser and its loss of detail shows less


def luma_maps(image: Tensor, strength: Tensor) -> Tensor:
    """Measure what `denoise_luma` needs.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        strength: ``(B,)`` in [0, 1].

    Returns:
        ``(B, 2, h, w)``: guided-filter coefficients a and b of luma.
    """
    luma, radius, noise = _measure(image)
    return guided_coefficients(luma, luma, radius, noise * per_image(strength))


def denoise_luma(image: Tensor, maps: Tensor, strength: Tensor, window: Window | None = None) -> Tensor:
    """Smooth the brightness of flat areas; colour differences stay.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear, the whole or a strip.
        maps: from `luma_maps` of the whole with the same strength.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.
        window: where the strip lies.

    Returns:
        ``(B, 3, H, W)`` in the same space.
    """
    luma = _luma(image)
    a, b = enlarge(maps, image, window).split(1, dim=1)
    return image + (a * luma).add_(b).sub_(luma).mul_(per_image(strength))


def chroma_maps(image: Tensor, strength: Tensor) -> Tensor:
    """Measure what `denoise_chroma` needs, as `luma_maps` does.

    Returns:
        ``(B, 4, h, w)``: guided-filter coefficients a, then b, of R and of B minus luma, guided by luma, so
        that colours stay within their edges.
    """
    grid = shrink(image, _GRID)
    luma, radius, noise = _measure(grid)
    differences = grid[:, ::2] - luma
    return guided_coefficients(luma, differences, 2 * radius, noise * per_image(_CHROMA * strength))


def denoise_chroma(image: Tensor, maps: Tensor, strength: Tensor, window: Window | None = None) -> Tensor:
    """Smooth the colour of flat areas; luma stays. Arguments and result as for `denoise_luma`."""
    luma = _luma(image)
    slopes, offsets = enlarge(maps, image, window).split(2, dim=1)
    step = (slopes * luma).add_(offsets).sub_(image[:, ::2] - luma).mul_(per_image(strength))
    red, blue = step.split(1, dim=1)
    # green gives half of what both take, so that luma stays
    return image + torch.cat([red, (red + blue).mul_(-0.5), blue], dim=1)


def _measure(image: Tensor) -> tuple[Tensor, int, Tensor]:
    """Luma on the grid ``(B, 1, h, w)``, the radius in its pixels, and the variance of strong noise there."""
    luma = shrink(_luma(image), _GRID)
    radius = radius_in_pixels(luma, _RADIUS)
    return luma, radius, box_mean(luma, radius).clamp_min(0.0).mul_(_SHOT).add_(_READ)


def _luma(image: Tensor) -> Tensor:
    """``(R + 2 G + B) / 4``: ``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
    red, green, blue = image.split(1, dim=1)
    return (red + blue).add_(green, alpha=2.0).mul_(0.25)
