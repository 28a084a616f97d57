"""Presence in linear sRGB: dehaze and clarity."""

from __future__ import annotations

from torch import Tensor

from isp_env.filters import guided_coefficients, local_min, luminance, per_image, radius_in_pixels, shrink
from isp_env.operators.tone import GRID, base_layer, lightness

_PATCH = 0.03  # of the short side: half the patch of the dark channel
_RADIUS = 0.1  # of the short side: window that refines the haze to the scene's edges
_HAZE_FLAT = 1e-3  # variance of lightness; small, as haze changes at edges of depth
_REMOVED = 0.75  # part of the haze that dehaze of 1 removes; all of it leaves noise where haze is thick
_ADDED = 0.6  # veil that dehaze of -1 adds, on the scale of the dark channel

_DETAIL = 0.6  # exponent of local contrast at clarity 1
_DARKEST = 0.1  # lightness added to both sides of the ratio, so that black noise is no detail


def dehaze_maps(image: Tensor) -> tuple[Tensor, Tensor]:
    """Measure what `dehaze` needs, by the dark channel prior of He, Sun, Tang, TPAMI 2011.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB.

    Returns:
        ``(B, 2, h, w)``: guided-filter coefficients a and b from lightness to haze, which is the dark channel
        over the airlight; and the airlight, ``(B, 1, 1, 1)``.
    """
    grid = shrink(image, GRID)
    radius = radius_in_pixels(grid, _PATCH)
    dark = local_min(grid.amin(dim=1, keepdim=True), radius)
    # one grey airlight: a coloured one would shift the white balance
    airlight = luminance(grid).amax(dim=(2, 3), keepdim=True).clamp_min(1e-3)
    guide = lightness(luminance(grid))
    haze = (dark / airlight).clamp_max(1.0)
    return guided_coefficients(guide, haze, radius_in_pixels(grid, _RADIUS), _HAZE_FLAT), airlight


def dehaze(image: Tensor, planes: Tensor, airlight: Tensor, amount: Tensor) -> Tensor:
    """Remove the veil of light that haze adds, ``J = (I - A (1 - t)) / t``; or add one.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB.
        planes, airlight: ``(B, 2, H, W)`` and ``(B, 1, 1, 1)``, its `dehaze_maps`, the former enlarged.
        amount: ``(B,)`` in [-1, 1]; 0 leaves the image as it is.

    Returns:
        ``(B, 3, H, W)`` linear sRGB from 0.
    """
    gain, veil = dehaze_terms(luminance(image), planes, airlight, amount)
    return (image * gain).sub_(veil).clamp_min_(0.0)


def dehaze_terms(light: Tensor, planes: Tensor, airlight: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
    """What `dehaze` multiplies light by and then takes off, from luminance; all ``(B, 1, H, W)``."""
    a, b = planes.split(1, dim=1)
    strength = per_image(amount)
    veil = (lightness(light) * a).add_(b).clamp_(0.0, 1.0)  # the haze
    veil = veil.mul_(_REMOVED * strength.clamp_min(0.0)).add_(_ADDED * strength.clamp_max(0.0))
    gain = (1.0 - veil).reciprocal_()
    return gain, veil.mul_(gain).mul_(airlight)


def clarity(image: Tensor, planes: Tensor, amount: Tensor) -> Tensor:
    """Strengthen local contrast of middle tones: lightness over its base layer, raised to a power.

    Args:
        image: ``(B, 3, H, W)`` linear sRGB.
        planes: ``(B, 2, H, W)``, its `isp_env.operators.tone.base_maps` enlarged.
        amount: ``(B,)`` in [-1, 1]; 0 leaves the image as it is.
    """
    light = luminance(image)
    return image * clarity_gain(light, base_layer(light, planes), amount)


def clarity_gain(light: Tensor, base: Tensor, amount: Tensor) -> Tensor:
    """What `clarity` multiplies light by, from luminance and its base layer, both ``(B, 1, H, W)``."""
    # lightness is the root of luminance: the gain of light is the square
    middle = (1.0 - base).mul_(base).mul_(per_image(8.0 * _DETAIL * amount))
    ratio = lightness(light).add_(_DARKEST).div_(base + _DARKEST)
    return ratio.log2_().mul_(middle).exp2_()
