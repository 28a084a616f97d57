"""Colour on display sRGB: saturation, vibrance, hue, black and white."""

from __future__ import annotations

import torch
from torch import Tensor

from isp_env.color import apply_matrix
from isp_env.filters import LUMA, luminance, per_image

_BOOST = 0.8  # how much colour saturation and vibrance of 1 add
_RED_FILTER, _BLUE_FILTER = (0.80, 0.20, 0.00), (0.00, 0.25, 0.75)


def vibrance(image: Tensor, amount: Tensor) -> Tensor:
    """Strengthen (or weaken) colours, pale ones most and saturated ones not at all.

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1].
        amount: ``(B,)`` in [-1, 1].

    Returns:
        Display sRGB; strong colours may leave [0, 1].
    """
    paleness = 1.0 - (image.amax(dim=1, keepdim=True) - image.amin(dim=1, keepdim=True))
    gain = paleness.square_().mul_(per_image(_BOOST * amount))
    return torch.addcmul(image, gain, image - luminance(image))


def color_mix(saturation: Tensor, hue: Tensor, monochrome: Tensor, monochrome_filter: Tensor) -> Tensor:
    """Saturation, hue and the black-and-white mix as one matrix an image.

    Args:
        saturation: ``(B,)`` in [-1, 1]; -1 is grey.
        hue: ``(B,)`` degrees around the grey axis, red towards yellow; luma stays.
        monochrome: ``(B,)`` in [0, 1]; 1 is black and white.
        monochrome_filter: ``(B,)`` in [-1, 1]: through a blue filter, none, a red filter.

    Returns:
        ``(B, 3, 3)`` for display sRGB; rows sum to 1, so that greys stay.
    """
    identity, weights, red, blue = saturation.new_tensor(_rows()).split([3, 1, 1, 1])
    chroma = identity - weights.expand(3, 3)  # removes luma
    turned = chroma @ _rotation(hue) @ chroma
    gain = torch.where(saturation > 0, 1.0 + _BOOST * saturation, 1.0 + saturation)
    mix = weights + gain[:, None, None] * turned  # (B, 3, 3)
    tilt = monochrome_filter[:, None]
    grey = weights + tilt.clamp_min(0.0) * (red - weights) - tilt.clamp_max(0.0) * (blue - weights)
    return torch.lerp(mix, grey[:, None].expand_as(mix), monochrome[:, None, None])


def mix_colors(image: Tensor, matrix: Tensor) -> Tensor:
    """Apply a `color_mix` to display sRGB ``(B, 3, H, W)``; the result may leave [0, 1]."""
    return apply_matrix(image, matrix)


def _rows() -> list[tuple[float, float, float]]:
    return [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), LUMA, _RED_FILTER, _BLUE_FILTER]


def _rotation(degrees: Tensor) -> Tensor:
    """Rotations ``(B, 3, 3)`` about the grey axis, by Rodrigues' formula."""
    angle = torch.deg2rad(degrees)[:, None, None]
    axis = degrees.new_full((3, 3), 1.0 / 3.0)  # outer product of the unit axis with itself
    cross = degrees.new_tensor([(0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0)]) / 3.0**0.5
    identity = torch.eye(3, device=degrees.device, dtype=degrees.dtype)
    return angle.cos() * identity + angle.sin() * cross + (1.0 - angle.cos()) * axis
