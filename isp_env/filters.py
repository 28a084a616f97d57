"""Neighbourhood filters and the small grids on which local operators measure.

Every size is a fraction of the image's short side, so that a preview and a full-resolution render of one
scene get one look. What a local operator learns about a neighbourhood it keeps in *maps*: tensors on a small
grid that cover the whole image and are enlarged to the rows in hand when they are applied.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.709, luminance of linear sRGB; on display sRGB the same weights give luma
LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Window:
    """Which rows of a whole image a strip holds: from `top`, out of `full_height`."""

    top: int
    full_height: int


def per_image(values: Tensor) -> Tensor:
    """One value an image, ``(B,)``, shaped to broadcast over ``(B, C, H, W)``."""
    return values[:, None, None, None]


def luminance(image: Tensor) -> Tensor:
    """``(B, 3, H, W)`` to ``(B, 1, H, W)``: luminance of linear sRGB, luma of display sRGB."""
    red, green, blue = image.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def shrink(image: Tensor, short_side: int) -> Tensor:
    """Average ``(B, C, H, W)`` down to a short side of `short_side`; smaller images are left as they are."""
    height, width = image.shape[-2:]
    short = min(height, width)
    if short <= short_side:
        return image
    if short % 2 == height % 2 == width % 2 == 0 and short >= 2 * short_side:
        return shrink(_halve(image), short_side)
    size = (max(1, round(height * short_side / short)), max(1, round(width * short_side / short)))
    return F.interpolate(image, size, mode="area")


def _halve(image: Tensor) -> Tensor:
    """Mean of each 2 x 2 pixels, as a sum of slices: 5 times as fast as `avg_pool2d` on a CPU."""
    rows = image[..., ::2, :] + image[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def enlarge(maps: Tensor, image: Tensor, window: Window | None = None) -> Tensor:
    """Bilinear enlargement of maps ``(B, C, h, w)`` of a whole image to the size of `image`.

    Args:
        maps: on any grid that covers the whole image.
        image: ``(..., H, W)``, the whole image or a strip of its rows.
        window: where the strip lies; ``None`` says that `image` is the whole.

    Returns:
        ``(B, C, H, W)``. Strips agree with the whole to float32 rounding.
    """
    height, width = image.shape[-2:]
    if window is not None and (window.top, window.full_height) != (0, height):
        maps = _rows(maps, window, height)
    if maps.shape[-2:] == (height, width):
        return maps
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)


def _rows(maps: Tensor, window: Window, height: int) -> Tensor:
    """Interpolate only vertically, to the rows of a strip: ``(B, C, h, w) -> (B, C, height, w)``."""
    last = maps.shape[-2] - 1
    centre = torch.arange(window.top, window.top + height, device=maps.device, dtype=torch.float32) + 0.5
    row = (centre * (maps.shape[-2] / window.full_height) - 0.5).clamp(0, last)
    above = row.floor()
    weight = (row - above)[:, None]
    below = (above + 1).clamp(max=last)
    return torch.lerp(maps[..., above.long(), :], maps[..., below.long(), :], weight)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over a square of ``2 radius + 1`` pixels; beyond the border its pixels are repeated.

    Two passes, each a sum of shifted slices: for the radius of a few pixels that small grids need, 10 times
    as fast as `avg_pool2d` on a CPU.
    """
    size = 2 * radius + 1
    height, width = image.shape[-2:]
    padded = F.pad(image, (radius, radius, radius, radius), mode="replicate")
    rows = padded[..., :width].clone()
    for shift in range(1, size):
        rows += padded[..., shift : shift + width]
    total = rows[..., :height, :].clone()
    for shift in range(1, size):
        total += rows[..., shift : shift + height, :]
    return total.mul_(1.0 / size**2)


def radius_in_pixels(image: Tensor, fraction: float) -> int:
    """A radius given as a fraction of the short side, in whole pixels of `image`, at least 1."""
    return max(1, round(min(image.shape[-2:]) * fraction))


def guided_coefficients(guide: Tensor, target: Tensor, radius: int, eps: Tensor | float) -> Tensor:
    """Coefficients of the guided filter, He, Sun, Tang, "Guided Image Filtering", TPAMI 2013, Eq. 5, 6, 8.

    Measured on a small grid and enlarged they make the fast guided filter (He, Sun, arXiv 1505.00996):
    the filtered image is ``a * guide + b`` with the full-size guide.

    Args:
        guide: ``(B, 1, h, w)``.
        target: ``(B, C, h, w)``, what is smoothed; the guide itself for an edge-preserving base layer.
        radius: of the box, in pixels of this grid.
        eps: variance of the guide under which an area counts as flat; broadcasts over ``(B, C, h, w)``.

    Returns:
        ``(B, 2C, h, w)``: all a, then all b.
    """
    guide_mean, target_mean = box_mean(guide, radius), box_mean(target, radius)
    variance = (box_mean(guide * guide, radius) - guide_mean * guide_mean).clamp_min_(0.0)
    if target is guide:
        covariance = variance
    else:
        covariance = box_mean(guide * target, radius) - guide_mean * target_mean
    # the tiny term keeps flat areas from 0 / 0 where eps is zero
    a = covariance / (variance + eps + 1e-12)
    return box_mean(torch.cat([a, target_mean - a * guide_mean], dim=1), radius)


def gaussian_blur(image: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Gaussian blur with one width an image; the border is mirrored.

    Args:
        image: ``(B, 1, H, W)``.
        sigma: ``(B,)`` in pixels, above 0.
        reach: half-width of the kernel in pixels, the same for all images, so that none depends on another's
            width; three times the largest sigma.
    """
    reach = min(reach, min(image.shape[-2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None]  # (B, 1, K)
    # (B, 1, H, W) as one image of B channels: each channel gets its own kernel
    stacked = F.pad(image.transpose(0, 1), (reach, reach, reach, reach), mode="reflect")
    count = image.shape[0]
    rows = F.conv2d(stacked, kernel[:, :, None, :], groups=count)
    return F.conv2d(rows, kernel[:, :, :, None], groups=count).transpose(0, 1)
