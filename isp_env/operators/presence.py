"""Presence in linear sRGB: dehaze and clarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
from isp_env.operators.tone import base_layer, lightness

_GRID = 64  # short side of the measuring grid
_PATCH = 0.03  # of the short side: half the patch of the dark channel
_RADIUS = 0.1  # of the short side: window that refines the haze to the scene's edges
_HAZE_FLAT = 1e-3  # variance of lightness; small, as haze changes at edges of depth
_REMOVED = 0.75  # part of the haze that dehaze of 1 removes; all of it leaves noise where haze is thick
_ADDED = 0.6  # veil that dehaze of -1 adds, on the scale of the dark channel

_DETAIL = 0.6  # exponent of local contrast at clarity 1
_DARKEST = 0.1  # lightness added to both sides of the ratio, so that black noise is no detail


def dehaze_maps(image: Tensor) -> Tensor:
    """Measure what `dehaze` needs, by the dark channel prior of He, Sun, Tang, TPAMI 2011.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB.

    Returns:
        ``(B, 3, h, w)``: guided-filter coefficients a and b from lightness to haze (the dark channel over
        airlight), and the airlight, one value an image.
    """
    grid = shrink(image, _GRID)
    radius = radius_in_pixels(grid, _PATCH)
    dark = -F.max_pool2d(-grid.amin(dim=1, keepdim=True), 2 * radius + 1, stride=1, padding=radius)
    # one grey airlight: a coloured one would shift the white balance
    airlight = luminance(grid).amax(dim=(2, 3), keepdim=True).clamp_min(1e-3)
    guide = lightness(grid)
    haze = (dark / airlight).clamp_max(1.0)
    coefficients = guided_coefficients(guide, haze, radius_in_pixels(grid, _RADIUS), _HAZE_FLAT)
    return torch.cat([coefficients, airlight.expand_as(guide)], dim=1)


def dehaze(image: Tensor, maps: Tensor, amount: Tensor, window: Window | None = None) -> Tensor:
    """Remove the veil of light that haze adds, ``J = (I - A (1 - t)) / t``; or add one.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB, the whole or a strip.
        maps: from `dehaze_maps` of the whole.
        amount: ``(B,)`` in [-1, 1]; 0 leaves the image as it is.
        window: where the strip lies.

    Returns:
        ``(B, 3, H, W)`` linear sRGB from 0.
    """
    a, b, airlight = enlarge(maps, image, window).split(1, dim=1)
    haze = (a * lightness(image)).add_(b).clamp_(0.0, 1.0)
    strength = per_image(amount)
    veil = haze * (_REMOVED * strength.clamp_min(0.0)) + _ADDED * strength.clamp_max(0.0)
    transmission = 1.0 - veil
    return (image - airlight * veil).div_(transmission).clamp_min_(0.0)


def clarity(image: Tensor, maps: Tensor, amount: Tensor, window: Window | None = None) -> Tensor:
    """Strengthen local contrast of middle tones: lightness over its base layer, raised to a power.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB, the whole or a strip.
        maps: from `isp_env.operators.tone.base_maps` of the whole.
        amount: ``(B,)`` in [-1, 1]; 0 leaves the image as it is.
        window: where the strip lies.
    """
    light = lightness(image)
    base = base_layer(light, maps, window)
    middle = (base * (1.0 - base)).mul_(per_image(4.0 * _DETAIL * amount))
    ratio = (light + _DARKEST).div_(base + _DARKEST)
    # lightness is the root of luminance: the gain of light is the square
    return image * ratio.log2_().mul_(middle.mul_(2.0)).exp2_()
