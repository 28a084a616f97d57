"""Neighbourhood filters and the small grids on which local operators measure.

Every size is a fraction of the image's short side, so that a preview and a full-resolution render of one
scene get one look. What a local operator learns about a neighbourhood it keeps in *maps*: tensors on a small
grid that cover the whole image and are enlarged to the rows in hand when they are applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.709, luminance of linear sRGB; on display sRGB the same weights give luma
LUMA = (0.2126, 0.7152, 0.0722)


Correlate = Callable[[Tensor, Tensor, int], Tensor]


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
    """Average ``(B, C, H, W)`` down to a short side of `short_side`; smaller images are left as they are.

    Halving, where it leads there, is 5 times as fast on a CPU as pooling; a line over is then repeated.
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    if short <= short_side:
        return image
    even = height % 2 == width % 2 == 0
    if short % 2 == 0 and ((even and short > 2 * short_side) or _halvings(short, short_side)):
        return shrink(_halve(_halve(image, 2), 3), short_side)
    size = (max(1, round(height * short_side / short)), max(1, round(width * short_side / short)))
    return F.interpolate(image, size, mode="area")


def _halvings(short: int, short_side: int) -> bool:
    """Whether halving leads from one short side to the other."""
    factor, rest = divmod(short, short_side)
    return rest == 0 and factor & (factor - 1) == 0


def _halve(image: Tensor, dim: int) -> Tensor:
    """Mean of pairs along `dim`; the last line of an odd number stays as it is."""
    size = image.shape[dim]
    even = image.narrow(dim, 0, size - size % 2).unflatten(dim, (-1, 2))
    half = (even.select(dim + 1, 0) + even.select(dim + 1, 1)).mul_(0.5)
    return torch.cat([half, image.narrow(dim, size - 1, 1)], dim) if size % 2 else half


def enlarge(maps: Tensor, image: Tensor, window: Window | None = None) -> Tensor:
    """Bilinear enlargement of maps ``(B, C, h, w)`` of a whole image to the size of `image`.

    One direction after the other, and by whole factors without looking places up: on a CPU 2 to 4 times as
    fast as `interpolate` in two directions.

    Args:
        maps: on any grid that covers the whole image.
        image: ``(..., H, W)``, the whole image or a strip of its rows.
        window: where the strip lies; ``None`` says that `image` is the whole.

    Returns:
        ``(B, C, H, W)``. Strips agree with the whole to float32 rounding.
    """
    height, width = image.shape[-2:]
    return enlarge_height(enlarge_width(maps, width), height, window)


def enlarge_width(maps: Tensor, width: int) -> Tensor:
    """``(B, C, h, w)`` to ``(B, C, h, width)``."""
    if _divides(maps.shape[-1], width):
        return _interleave(maps, width // maps.shape[-1], dim=3)
    lines = F.interpolate(maps.flatten(1, 2), width, mode="linear", align_corners=False)
    return lines.unflatten(1, maps.shape[1:3])


def enlarge_height(maps: Tensor, height: int, window: Window | None = None) -> Tensor:
    """As `enlarge`, the rows alone: ``(B, C, h, w)`` to ``(B, C, height, w)``."""
    if window is None:
        window = Window(0, height)
    if window.full_height == height and _divides(maps.shape[-2], height):
        return _interleave(maps, height // maps.shape[-2], dim=2)
    # a strip lies over few rows of the grid: a product with their weights beats picking two rows for each
    last, scale = maps.shape[-2] - 1, maps.shape[-2] / window.full_height
    first = max(0, floor((window.top + 0.5) * scale - 0.5))
    end = min(last, floor((window.top + height - 0.5) * scale - 0.5) + 1) + 1
    centre = torch.arange(window.top, window.top + height, device=maps.device, dtype=torch.float32) + 0.5
    row = (centre * scale - 0.5).clamp(0, last)
    grid = torch.arange(first, end, device=maps.device, dtype=torch.float32)
    weights = (1.0 - (row[:, None] - grid).abs()).clamp_min(0.0)  # (height, end - first)
    return weights.to(maps.dtype) @ maps[..., first:end, :]


def _divides(size: int, larger: int) -> bool:
    """Whether the enlargement is by a whole factor, and one for which a pass a place pays."""
    return larger % size == 0 and larger // size <= 8


def _interleave(maps: Tensor, factor: int, dim: int) -> Tensor:
    """Linear interpolation between neighbours along `dim`, each becoming `factor` places."""
    if factor == 1:
        return maps
    size = maps.shape[dim]
    padded = torch.cat([maps.narrow(dim, 0, 1), maps, maps.narrow(dim, size - 1, 1)], dim)
    before, after = padded.narrow(dim, 0, size), padded.narrow(dim, 2, size)
    result = maps.new_empty(*maps.shape[: dim + 1], factor, *maps.shape[dim + 1 :])
    for place in range(factor):
        offset = (place + 0.5) / factor - 0.5
        neighbour = before if offset < 0 else after
        torch.lerp(maps, neighbour, abs(offset), out=result.select(dim + 1, place))
    return result.flatten(dim, dim + 1)


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
    guide_mean = box_mean(guide, radius)
    target_mean = guide_mean if target is guide else box_mean(target, radius)
    variance = (box_mean(guide * guide, radius) - guide_mean * guide_mean).clamp_min_(0.0)
    if target is guide:
        covariance = variance
    else:
        covariance = box_mean(guide * target, radius) - guide_mean * target_mean
    # the tiny term keeps flat areas from 0 / 0 where eps is zero
    a = covariance / (variance + eps + 1e-12)
    return box_mean(torch.cat([a, target_mean - a * guide_mean], dim=1), radius)


def gaussian_blur(image: Tensor, sigma: Tensor, reach: int, correlate: Correlate | None = None) -> Tensor:
    """Gaussian blur with one width an image; the border is mirrored.

    Args:
        image: ``(B, C, H, W)``.
        sigma: ``(B,)`` in pixels, above 0.
        reach: half-width of the kernel in pixels, the same for all images, so that none depends on another's
            width; three times the largest sigma.
        correlate: does the work of `correlate_symmetric`, which is the default.
    """
    run = correlate or correlate_symmetric
    reach = min(reach, min(image.shape[-2:]) - 1)
    offsets = torch.arange(reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = kernel / (2.0 * kernel.sum(dim=1, keepdim=True) - kernel[:, :1])
    padded = F.pad(image, (reach, reach, reach, reach), mode="reflect")
    return run(run(padded, kernel, 2), kernel, 3)


def correlate_symmetric(padded: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Correlate along one dimension with a symmetric kernel an image.

    A sum of shifted slices: 5 times as fast as a grouped `conv2d` on a CPU.

    Args:
        padded: ``(B, C, H, W)``, with a border of n pixels in `dim`, which is used up.
        kernel: ``(B, n + 1)``, the weight of the centre, then of each pair of neighbours.
        dim: 2 or 3.
    """
    reach = kernel.shape[1] - 1
    size = padded.shape[dim] - 2 * reach
    centre, *taps = kernel.unbind(dim=1)
    total = padded.narrow(dim, reach, size) * per_image(centre)
    for step, tap in enumerate(taps, start=1):
        for place in (reach - step, reach + step):
            total.addcmul_(padded.narrow(dim, place, size), per_image(tap))
    return total


def local_min(image: Tensor, radius: int) -> Tensor:
    """Smallest value within a square of ``2 radius + 1`` pixels, ``(B, C, H, W)`` to the same."""
    padded = F.pad(image, (radius, radius, radius, radius), mode="replicate")
    for dim in (2, 3):
        size = padded.shape[dim] - 2 * radius
        lowest = padded.narrow(dim, 0, size)
        for shift in range(1, 2 * radius + 1):
            lowest = torch.minimum(lowest, padded.narrow(dim, shift, size))
        padded = lowest
    return padded
