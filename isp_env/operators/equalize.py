"""Contrast-limited adaptive histogram equalisation of display sRGB, batched, without a loop over tiles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from isp_env.filters import Window, enlarge_height, luminance, per_image, shrink

_GRID = 128  # short side of the measuring grid
_TILES = 8  # along each side, as in OpenCV
_BINS = 16
_CLIP = 2.5  # largest count of a bin, in units of the mean count: the steepest slope of the mapping
_DARKEST = 0.05  # luma added to both sides of the gain, so that black noise is not blown up


def equalize_maps(luma: Tensor, tiles: int = _TILES, bins: int = _BINS, clip: float = _CLIP) -> Tensor:
    """The equalising mapping of luma in every tile, Zuiderveld, Graphics Gems IV (1994).

    Args:
        luma: ``(B, 1, H, W)`` of display sRGB, in [0, 1].
        tiles: rows, and columns, of tiles.
        bins: of the histograms.
        clip: largest count of a bin as a multiple of the mean count; what is above is spread over all bins.

    Returns:
        ``(B, bins + 1, tiles, tiles)``: new luma at the edges of the bins, rising from 0 to 1.
    """
    luma = shrink(luma, _GRID)
    count, _, height, width = luma.shape
    row = torch.arange(height, device=luma.device) * tiles // height
    column = torch.arange(width, device=luma.device) * tiles // width
    tile = row[:, None] * tiles + column + torch.arange(count, device=luma.device)[:, None, None] * tiles**2
    level = (luma[:, 0] * bins).long().clamp_(0, bins - 1)
    histogram = torch.bincount((tile * bins + level).flatten(), minlength=count * tiles**2 * bins)
    shares = histogram.view(-1, bins).to(luma.dtype)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp_min(1.0)
    limited = shares.clamp_max(clip / bins)
    limited = limited + (1.0 - limited.sum(dim=1, keepdim=True)) / bins
    mapping = F.pad(limited.cumsum(dim=1), (1, 0))
    return mapping.view(count, tiles, tiles, bins + 1).permute(0, 3, 1, 2)


def equalize(image: Tensor, equalized: Tensor, strength: Tensor) -> Tensor:
    """Blend in the locally equalised image; channels are scaled alike, so that hues stay.

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1].
        equalized: ``(B, 1, H, W)``, the `equalized_luma` of its luma.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.

    Returns:
        Display sRGB; strong colours may exceed 1.
    """
    return image * equalize_gain(luminance(image), equalized, strength)


def equalize_gain(luma: Tensor, equalized: Tensor, strength: Tensor) -> Tensor:
    """What `equalize` multiplies display values by; all ``(B, 1, H, W)``."""
    return (equalized - luma).div_(luma + _DARKEST).mul_(per_image(strength)).add_(1.0)


def equalized_luma(luma: Tensor, maps: Tensor, window: Window | None = None) -> Tensor:
    """Each pixel through the mappings of the four nearest tiles, trilinearly; luma ``(B, 1, H, W)``.

    The mappings are interpolated to each row of pixels first; a row is then looked up in two dimensions,
    column and level: 10 times as fast as one lookup in three.
    """
    count, _, height, width = luma.shape
    tiles = maps.shape[-1]
    rows = enlarge_height(maps, height, window).permute(0, 2, 1, 3).reshape(-1, 1, maps.shape[1], tiles)
    centres = torch.arange(width, device=luma.device, dtype=luma.dtype) + 0.5
    column = (centres * (tiles / width) - 0.5).clamp_(0.0, tiles - 1.0) * (2.0 / max(1, tiles - 1)) - 1.0
    position = torch.stack(torch.broadcast_tensors(column, luma * 2.0 - 1.0), dim=-1)  # as grid_sample counts
    sampled = F.grid_sample(rows, position.view(-1, 1, width, 2), padding_mode="border", align_corners=True)
    return sampled.view(count, 1, height, width)
