"""Denoising in linear light: each frame's own noise is measured, and what rises above it is kept.

An adaptive Wiener filter (Lee, "Digital image enhancement and noise filtering by use of local statistics",
TPAMI 1980): around each place a value x with mean m and variance v becomes ``m + a (x - m)``, where
``a = (v - noise) / v``, so that flat areas become their mean and whatever has detail stays as it is. Means
and variances are taken over every pixel of the small image, so that details finer than the grid of the maps
count as detail.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isp_env.filters import box_mean, per_image, radius_in_pixels, shrink

GRID = 128  # short side of the grid on which means and variances are kept
_RADIUS = 0.008  # of the short side

# The variance of noise is taken for ``level * (luma + floor)``, as that of a Poisson-Gaussian sensor (Foi et
# al., TIP 2008) with a read noise of 0.3 % of white at a level of 2e-3. The level is that of the flattest
# places: a fifth of all have less variance than it says (all numbers here are our choice)
_FLOOR = 5e-3
_FLATTEST = 0.2
# variance that varies from window to window as much as noise does is taken for noise
_MARGIN = 2.0
# Levels beyond which nothing is believed: up to the lower one noise is not seen (0.5 % of middle grey in
# brightness, 1 % in each colour), above the higher one (10 % of middle grey) what is flattest is texture
_LUMA_LEVELS = (5e-6, 2e-3)
_CHROMA_LEVELS = (4e-5, 4e-3)
# Texture is mostly brightness: where little varies in colour, what varies in brightness is no noise. That of
# a sensor has 0.2 (colours told apart at each pixel) to 0.6 (demosaicked) of its colour's level in brightness
_LUMA_OF_CHROMA = 0.4

# what red, green and blue take of a step in R - luma, and of one in B - luma, so that luma stays
_SHARES = ((1.0, -0.5, 0.0), (0.0, -0.5, 1.0))


def noise_maps(image: Tensor) -> tuple[Tensor, Tensor]:
    """Measure what `denoise_luma` and `denoise_chroma` need.

    Colour is smoothed as a share of brightness, (R - luma) / (luma + floor): beside a bright sky the
    differences themselves would colour all that is dark. Both shares have one factor a, so that no hue turns.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear, no larger than an analysis needs.

    Returns:
        ``(B, 2, h, w)``, a and b of luma, which becomes ``a * luma + b``, and ``(B, 3, h, w)``, the a of both
        shares, and b of R - luma's and of B - luma's.
    """
    luma = _luma(image)
    mean, variance = _statistics(luma)
    shares, spread = _statistics((image[:, ::2] - luma) / _brightness(luma))
    spread = spread.sum(dim=1, keepdim=True)
    brightness = _brightness(mean)
    of_chroma = _noise_level(spread * brightness, mean)
    of_luma = torch.minimum(_noise_level(variance / brightness, mean), _LUMA_OF_CHROMA * of_chroma)
    luma_noise = of_luma.clamp(*_LUMA_LEVELS) * brightness
    return (
        _smoothing(mean, variance, luma_noise),
        _smoothing(shares, spread, of_chroma.clamp(*_CHROMA_LEVELS) / brightness),
    )


def denoise_luma(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """Smooth the brightness of flat areas; colour differences stay.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        planes: ``(B, 2, H, W)``, the first of its `noise_maps`, enlarged.
        strength: ``(B,)`` in [0, 1], the share of the noise that goes; 0 leaves the image as it is.

    Returns:
        ``(B, 3, H, W)`` in the same space.
    """
    return image + luma_step(image, planes, strength)


def luma_step(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """What `denoise_luma` adds to all three channels, ``(B, 1, H, W)``."""
    luma = _luma(image)
    a, b = planes.split(1, dim=1)
    return (a * luma).add_(b).sub_(luma).mul_(per_image(strength))


def denoise_chroma(image: Tensor, planes: Tensor, strength: Tensor) -> Tensor:
    """Smooth the colour of flat areas; luma stays.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        planes: ``(B, 3, H, W)``, the second of its `noise_maps`, enlarged.
        strength: ``(B,)`` in [0, 1], the share of the noise that goes; 0 leaves the image as it is.
    """
    a, b = planes.split([1, 2], dim=1)
    luma = _luma(image)
    differences = image[:, ::2] - luma
    step = (a * differences).addcmul_(b, _brightness(luma)).sub_(differences).mul_(per_image(strength))
    red, blue = step.split(1, dim=1)
    to_red, to_blue = image.new_tensor(_SHARES)[:, None, :, None, None]
    return torch.addcmul(image, red, to_red).addcmul_(blue, to_blue)


def _statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Local mean and variance on the grid: ``(B, C, H, W)`` to ``(B, C, h, w)`` each."""
    means, squares = shrink(values, GRID), shrink(values * values, GRID)
    radius = radius_in_pixels(means, _RADIUS)
    means = box_mean(means, radius)
    return means, (box_mean(squares, radius) - means * means).clamp_min_(0.0)


def _noise_level(levels: Tensor, luma: Tensor) -> Tensor:
    """The level of each image's noise, ``(B, 1, 1, 1)``, from what each place would have it be.

    What is clipped, and what is wholly even, tells nothing of noise.
    """
    telling = torch.where((luma < 0.95) & (levels > 1e-12), levels, torch.nan)
    some = telling[..., ::2, ::2].flatten(1)  # windows overlap: every second tells as much
    return per_image(torch.nan_to_num(torch.nanquantile(some, _FLATTEST, dim=1), nan=0.0))


def _smoothing(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Coefficients ``(B, 1 + C, h, w)``: the factor a, and b of each channel of `mean` ``(B, C, h, w)``."""
    a = (1.0 - _MARGIN * noise / (variance + 1e-12)).clamp_min(0.0)
    return box_mean(torch.cat([a, (1.0 - a) * mean], dim=1), radius_in_pixels(mean, _RADIUS))


def _luma(image: Tensor) -> Tensor:
    """``(R + 2 G + B) / 4``: ``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
    red, green, blue = image.split(1, dim=1)
    return (red + blue).add_(green, alpha=2.0).mul_(0.25)


def _brightness(luma: Tensor) -> Tensor:
    """What colours are shares of, above zero: noise may take black below it."""
    return luma.clamp_min(0.0).add_(_FLOOR)
