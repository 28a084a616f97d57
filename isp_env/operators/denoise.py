"""Denoising in linear light, edge-preserving."""

from __future__ import annotations

import torch
from torch import Tensor

from isp_env.filters import (
    box_mean,
    guided_coefficients,
    per_image,
    radius_in_pixels,
    shrink,
)

# Short sides of the measuring grids, on which radii are one pixel: averaging down to them takes off the
# finest noise already. Colour is coarser than brightness, to the eye as in the noise
GRID, _CHROMA_GRID = 128, 64
_LUMA_RADIUS, _CHROMA_RADIUS = 0.008, 0.016  # of the short side

# Variance that counts as noise at full strength, (shot * mean + read) as for a Poisson-Gaussian sensor
# (Foi et al., TIP 2008); the levels are our choice: 2 % of white at middle grey, 0.3 % in black
_SHOT, _READ = 2e-3, 1e-5
# Colour is smoothed as a share of brightness, (R - luma) / (luma + floor): beside a bright sky the
# differences themselves would colour all that is dark. With this floor the noise above, whose variance is
# `_SHOT * (luma + floor)`, becomes one of `_SHOT / (luma + floor)`
_FLOOR = _READ / _SHOT
# what red, green and blue take of a step in R - luma, and of one in B - luma, so that luma stays
_SHARES = ((1.0, -0.5, 0.0), (0.0, -0.5, 1.0))
_CHROMA = 2.0  # the loss of detail in colour shows less


def luma_maps(image: Tensor, strength: Tensor) -> Tensor:
    """Measure what `denoise_luma` needs.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        strength: ``(B,)`` in [0, 1].

    Returns:
        ``(B, 2, h, w)``: guided-filter coefficients a and b of luma.
    """
    luma = shrink(_luma(image), GRID)
    radius = radius_in_pixels(luma, _LUMA_RADIUS)
    return guided_coefficients(luma, luma, radius, _noise(luma, radius) * per_image(strength))


def denoise_luma(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """Smooth the brightness of flat areas; colour differences stay.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        planes: ``(B, 2, H, W)``, the `luma_maps` of the same strength, enlarged.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.

    Returns:
        ``(B, 3, H, W)`` in the same space.
    """
    return image + luma_step(image, planes, strength)


def luma_step(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """What `denoise_luma` adds to all three channels, ``(B, 1, H, W)``."""
    luma = _luma(image)
    a, b = planes.split(1, dim=1)
    return (a * luma).add_(b).sub_(luma).mul_(per_image(strength))


def chroma_maps(image: Tensor, strength: Tensor) -> Tensor:
    """Measure what `denoise_chroma` needs, as `luma_maps` does.

    Each colour guides itself: guided by luma, colours bled over edges between equally bright ones.

    Returns:
        ``(B, 4, h, w)``: guided-filter coefficients a, then b, of R - luma and of B - luma, both as shares of
        luma.
    """
    grid = shrink(image, _CHROMA_GRID)
    luma = _luma(grid)
    radius = radius_in_pixels(luma, _CHROMA_RADIUS)
    shares = (grid[:, ::2] - luma) / _brightness(luma)
    noise = per_image(_CHROMA * _SHOT * strength) / _brightness(box_mean(luma, radius))
    return guided_coefficients(shares, shares, radius, noise)


def denoise_chroma(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """Smooth the colour of flat areas; luma stays.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        planes: ``(B, 4, H, W)``, the `chroma_maps` of the same strength, enlarged.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.
    """
    a, b = planes.split(2, dim=1)
    luma = _luma(image)
    differences = image[:, ::2] - luma
    step = (a * differences).addcmul_(b, _brightness(luma)).sub_(differences).mul_(per_image(strength))
    red, blue = step.split(1, dim=1)
    to_red, to_blue = image.new_tensor(_SHARES)[:, None, :, None, None]
    return torch.addcmul(image, red, to_red).addcmul_(blue, to_blue)


def _noise(luma: Tensor, radius: int) -> Tensor:
    """Variance of strong noise around each pixel of the grid, ``(B, 1, h, w)``."""
    return box_mean(luma, radius).clamp_min(0.0).mul_(_SHOT).add_(_READ)


def _luma(image: Tensor) -> Tensor:
    """``(R + 2 G + B) / 4``: ``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
    red, green, blue = image.split(1, dim=1)
    return (red + blue).add_(green, alpha=2.0).mul_(0.25)


def _brightness(luma: Tensor) -> Tensor:
    """What colours are shares of, above zero: noise may take black below it."""
    return luma.clamp_min(0.0).add_(_FLOOR)
