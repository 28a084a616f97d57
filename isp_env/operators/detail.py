"""Detail on display sRGB: sharpening."""

from __future__ import annotations

from math import ceil

from torch import Tensor

from isp_env.filters import Correlate, gaussian_blur, luminance, per_image, shrink

_GRID = 256  # short side of the measuring grid
_LARGEST_RADIUS = 1.0  # percent of the short side; the upper limit of the parameter


def sharpen_maps(luma: Tensor, radius: Tensor, correlate: Correlate | None = None) -> Tensor:
    """Measure what `sharpen` needs: blurred luma on a small grid.

    Args:
        luma: ``(B, 1, H, W)`` of display sRGB.
        radius: ``(B,)`` standard deviation in percent of the short side.
        correlate: see `isp_env.filters.gaussian_blur`.

    Returns:
        ``(B, 1, h, w)``.
    """
    luma = shrink(luma, _GRID)
    percent = min(luma.shape[-2:]) / 100.0
    return gaussian_blur(luma, radius * percent, ceil(3.0 * _LARGEST_RADIUS * percent), correlate)


def sharpen(image: Tensor, blurred: Tensor, amount: Tensor) -> Tensor:
    """Unsharp mask on luma: what the blur lacks is added, `amount` times, to all channels alike.

    Args:
        image: ``(B, 3, H, W)`` display sRGB.
        blurred: ``(B, 1, H, W)``, the `sharpen_maps` of its luma enlarged.
        amount: ``(B,)``; 0 leaves the image as it is, negative values soften, -1 is the blur itself.

    Returns:
        Display sRGB; strong edges may leave [0, 1].
    """
    return image + (luminance(image) - blurred).mul_(per_image(amount))
