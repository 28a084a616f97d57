"""White balance and the camera's colour matrix: camera linear to linear sRGB."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from isp_env.color import (
    D65_XY,
    SRGB_PRIMARIES,
    apply_matrix,
    kelvin_to_mired,
    kelvin_to_xy,
    rgb_to_xyz_matrix,
    xy_to_xyz,
)

_REFERENCE_MIRED = 1e6 / 6504.0  # the white of sRGB, to which the as-shot balance leads


def balance_gains(white_balance: Tensor, color_matrix: Tensor, temperature: Tensor, tint: Tensor) -> Tensor:
    """Camera gains for a balance that is warmer or greener than the as-shot one.

    A shift of t mired asks how a grey under a black body of (reference - t) mired would look to this camera,
    and makes that grey white. The reference is 6504 K whatever light the scene was shot in, so that one
    shift looks alike on all of them (our choice).

    Args:
        white_balance: as-shot gains ``(B, 3)``.
        color_matrix: ``(B, 3, 3)``, white-balanced camera linear to linear sRGB.
        temperature: ``(B,)`` mired; positive warms the picture.
        tint: ``(B,)`` EV; positive takes green away.

    Returns:
        ``(B, 3)`` gains, the as-shot ones exactly where both are 0. The smallest of them is not 1: see
        `normalized`.
    """
    to_camera = torch.linalg.inv_ex(color_matrix.double()).inverse @ _xyz_to_srgb(color_matrix.device)
    grey = _camera_grey(to_camera, _REFERENCE_MIRED - temperature.double())
    ratio = _camera_grey(to_camera, torch.full_like(temperature.double(), _REFERENCE_MIRED)) / grey
    ratio = ratio / ratio[:, 1:2]
    # far-fetched matrices may see a negative or no grey at all; they keep their balance
    ratio = torch.nan_to_num(ratio, nan=1.0, posinf=1.0, neginf=1.0).clamp(0.25, 4.0)
    green = torch.exp2(-tint.double())
    ratio = torch.stack([ratio[:, 0], green, ratio[:, 2]], dim=1)
    return white_balance * ratio.to(white_balance.dtype)


def normalized(gains: Tensor) -> Tensor:
    """Gains ``(B, 3)`` whose smallest is brought to 1.

    Then a saturated sensor pixel is at 1 or above in every channel, and `clip_saturated` makes it white.
    """
    return gains / gains.amin(dim=1, keepdim=True)


def white_balance(image: Tensor, gains: Tensor) -> Tensor:
    """Multiply camera linear ``(B, 3, H, W)`` by `normalized` gains ``(B, 3)``; nothing is clipped yet."""
    return image * gains[:, :, None, None]


def clip_saturated(image: Tensor) -> Tensor:
    """Clip white-balanced camera linear to [0, 1], where the first channel saturates.

    This is LibRaw's highlight mode 0: blown highlights are white, at the price of what the other channels
    still knew.
    """
    return image.clamp(0.0, 1.0)


def exposed(color_matrix: Tensor, exposure: Tensor) -> Tensor:
    """Colour matrices ``(B, 3, 3)`` with exposure in them: both are linear, and one pass does both.

    Args:
        color_matrix: white-balanced camera linear to linear sRGB, rows sum to 1.
        exposure: ``(B,)`` EV; 0 leaves the light as it is.
    """
    return color_matrix * torch.exp2(exposure)[:, None, None]


def to_linear_srgb(image: Tensor, color_matrix: Tensor) -> Tensor:
    """Apply the colour matrix.

    Args:
        image: ``(B, 3, H, W)`` white-balanced camera linear.
        color_matrix: ``(B, 3, 3)``, see `exposed`.

    Returns:
        ``(B, 3, H, W)`` linear sRGB from 0; values above 1 are kept for tone mapping.
    """
    return apply_matrix(image, color_matrix).clamp_min_(0.0)


def _camera_grey(to_camera: Tensor, mired: Tensor) -> Tensor:
    """A grey lit by black bodies of `mired` ``(B,)``, as the white-balanced camera sees it, ``(B, 3)``."""
    xyz = xy_to_xyz(kelvin_to_xy(kelvin_to_mired(mired)))
    return (to_camera @ xyz[:, :, None]).squeeze(-1)


@cache
def _xyz_to_srgb(device: torch.device) -> Tensor:
    return torch.linalg.inv(rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY)).to(device)
