"""Colour: transfer functions, RGB primaries, chromatic adaptation, colour temperature.

Pure functions on torch tensors of any floating dtype and device. An *image* is ``(..., 3, H, W)``; a
*transfer function* works on any shape. Nothing here clamps: what lies outside [0, 1] stays outside.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# CIE 1931 2-degree chromaticities of the white points, CIE 15:2004 (D65) and ICC.1:2022 (D50)
D65_XY = (0.3127, 0.3290)
D50_XY = (0.3457, 0.3585)

# x, y of red, green and blue
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # IEC 61966-2-1
PROPHOTO_PRIMARIES = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))  # ANSI IT10.7666 (ROMM RGB)

# Lam (1985), the cone response of the Bradford transform
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Linear sRGB to display sRGB, IEC 61966-2-1; any shape; negative values stay on the linear segment."""
    curve = 1.055 * linear.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def srgb_to_linear(display: Tensor) -> Tensor:
    """Display sRGB to linear sRGB, the inverse of `linear_to_srgb`; any shape."""
    curve = ((display.clamp_min(0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(display <= 0.04045, display / 12.92, curve)


def prophoto_to_linear(encoded: Tensor) -> Tensor:
    """Encoded ProPhoto (ROMM) RGB to linear, ISO 22028-2: exponent 1.8 above ``16 / 512``; any shape."""
    return torch.where(encoded < 16 / 512, encoded / 16, encoded.clamp_min(16 / 512).pow(1.8))


def linear_to_prophoto(linear: Tensor) -> Tensor:
    """Linear to encoded ProPhoto (ROMM) RGB, the inverse of `prophoto_to_linear`; any shape."""
    return torch.where(linear < 1 / 512, linear * 16, linear.clamp_min(1 / 512).pow(1 / 1.8))


def apply_matrix(image: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each pixel by a matrix.

    Args:
        image: ``(..., 3, H, W)``, linear light.
        matrix: ``(3, 3)``, or one an image, ``(..., 3, 3)``.
    """
    # a sum of three products: on a CPU faster than a matrix product of so few rows, and compilers fuse it
    columns = [column[..., None, None] for column in matrix.unbind(-1)]
    red, green, blue = image.split(1, dim=-3)
    return (columns[0] * red).addcmul_(columns[1], green).addcmul_(columns[2], blue)


def look_up(table: Tensor, image: Tensor) -> Tensor:
    """Look each pixel up in a three-dimensional table, trilinearly.

    Args:
        table: ``(3, N, N, N)`` at ``[channel, blue, green, red]``.
        image: ``(3, H, W)``, in [0, 1].

    Returns:
        ``(3, H, W)``.
    """
    places = image.permute(1, 2, 0)[None, None] * 2.0 - 1.0  # (1, 1, H, W, 3), as grid_sample counts
    return F.grid_sample(table[None], places, align_corners=True)[0, :, 0]


def xy_to_xyz(xy: Tensor) -> Tensor:
    """Chromaticity ``(..., 2)`` to XYZ ``(..., 3)`` with Y at 1."""
    x, y = xy.unbind(-1)
    return torch.stack([x / y, torch.ones_like(x), (1 - x - y) / y], dim=-1)


def rgb_to_xyz_matrix(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> Tensor:
    """Linear RGB to XYZ, relative to `white`, derived from the primaries (SMPTE RP 177).

    Returns:
        float64 ``(3, 3)``; its inverse leads back.
    """
    columns = xy_to_xyz(torch.tensor(primaries, dtype=torch.float64)).T
    scale = torch.linalg.solve(columns, xy_to_xyz(torch.tensor(white, dtype=torch.float64)))
    return columns * scale


def adaptation_matrix(source_xy: Tensor, target_xy: Tensor) -> Tensor:
    """Bradford chromatic adaptation: XYZ under the source white to XYZ under the target white.

    Args:
        source_xy, target_xy: chromaticities ``(..., 2)``, which broadcast.

    Returns:
        ``(..., 3, 3)``.
    """
    bradford = torch.tensor(_BRADFORD, dtype=source_xy.dtype, device=source_xy.device)
    source = xy_to_xyz(source_xy) @ bradford.T
    target = xy_to_xyz(target_xy) @ bradford.T
    return torch.linalg.inv(bradford) @ ((target / source)[..., None] * bradford)


def prophoto_to_srgb_matrix() -> Tensor:
    """Linear ProPhoto RGB (D50) to linear sRGB (D65), adapted by Bradford; float64 ``(3, 3)``."""
    d50, d65 = (torch.tensor(white, dtype=torch.float64) for white in (D50_XY, D65_XY))
    to_xyz = adaptation_matrix(d50, d65) @ rgb_to_xyz_matrix(PROPHOTO_PRIMARIES, D50_XY)
    return torch.linalg.solve(rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY), to_xyz)


def kelvin_to_xy(kelvin: Tensor) -> Tensor:
    """Chromaticity of a black body, by the cubic fit of Kang et al., J. Korean Phys. Soc. 41 (2002).

    Args:
        kelvin: any shape, in [1667, 25000] K; values outside are taken at the nearer end.

    Returns:
        CIE 1931 x and y in a last dimension of 2.
    """
    kelvin = kelvin.clamp(1667.0, 25000.0)
    t = 1e3 / kelvin
    x = torch.where(
        kelvin <= 4000,
        ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910,
        ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.24039,
    )
    y_warm = ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683
    y_middle = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    y_cool = ((3.0817580 * x - 5.8733867) * x + 3.75112997) * x - 0.37001483
    y = torch.where(kelvin <= 2222, y_warm, torch.where(kelvin <= 4000, y_middle, y_cool))
    return torch.stack([x, y], dim=-1)


def xy_to_kelvin(xy: Tensor) -> Tensor:
    """Correlated colour temperature of a chromaticity ``(..., 2)``, by McCamy, Color Res. Appl. 17 (1992)."""
    n = (xy[..., 0] - 0.3320) / (xy[..., 1] - 0.1858)
    return ((-449.0 * n + 3525.0) * n - 6823.3) * n + 5520.33


def kelvin_to_mired(kelvin: Tensor) -> Tensor:
    """Colour temperature to mired, 10^6 / K; the same function leads back."""
    return 1e6 / kelvin
