"""Detail on display sRGB: sharpening."""

from __future__ import annotations

from math import ceil

from torch import Tensor

from isp_env.filters import Window, enlarge, gaussian_blur, luminance, per_image, shrink

_GRID = 256  # short side of the measuring grid
_LARGEST_RADIUS = 1.0  # percent of the short side; the upper limit of the parameter


def sharpen_maps(image: Tensor, radius: Tensor) -> Tensor:
    """Measure what `sharpen` needs: blurred luma on a small grid.

    Args:
        image: ``(B, 3, H, W)`` display sRGB.
        radius: ``(B,)`` standard deviation in percent of the short side.

    Returns:
        ``(B, 1, h, w)``.
    """
    luma = shrink(luminance(image), _GRID)
    percent = min(luma.shape[-2:]) / 100.0
    return gaussian_blur(luma, radius * percent, reach=ceil(3.0 * _LARGEST_RADIUS * percent))


def sharpen(image: Tensor, maps: Tensor, amount: Tensor, window: Window | None = None) -> Tensor:
    """Unsharp mask on luma: what the blur lacks is added, `amount` times, to all channels alike.

    Args:
        image: ``(B, 3, H, W)`` display sRGB, the whole or a strip.
        maps: from `sharpen_maps` of the whole.
        amount: ``(B,)``; 0 leaves the image as it is, negative values soften, -1 is the blur itself.
        window: where the strip lies.

    Returns:
        Display sRGB; strong edges may leave [0, 1].
    """
    detail = luminance(image).sub_(enlarge(maps, image, window))
    return image + detail.mul_(per_image(amount))
