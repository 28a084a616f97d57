"""Contrast-limited adaptive histogram equalisation of display sRGB, batched, without a loop over tiles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from isp_env.filters import Window, luminance, per_image, shrink

_GRID = 256  # short side of the measuring grid
_TILES = 8  # along each side, as in OpenCV
_BINS = 64
_CLIP = 2.5  # largest count of a bin, in units of the mean count: the steepest slope of the mapping
_DARKEST = 0.05  # luma added to both sides of the gain, so that black noise is not blown up


def equalize_maps(image: Tensor, tiles: int = _TILES, bins: int = _BINS, clip: float = _CLIP) -> Tensor:
    """The equalising mapping of luma in every tile, Zuiderveld, Graphics Gems IV (1994).

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1].
        tiles: rows, and columns, of tiles.
        bins: of the histograms.
        clip: largest count of a bin as a multiple of the mean count; what is above is spread over all bins.

    Returns:
        ``(B, bins + 1, tiles, tiles)``: new luma at the edges of the bins, rising from 0 to 1.
    """
    luma = shrink(luminance(image), _GRID)
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


def equalize(image: Tensor, maps: Tensor, strength: Tensor, window: Window | None = None) -> Tensor:
    """Blend in the locally equalised image; channels are scaled alike, so that hues stay.

    Args:
        image: ``(B, 3, H, W)`` display sRGB in [0, 1], the whole or a strip.
        maps: from `equalize_maps` of the whole.
        strength: ``(B,)`` in [0, 1]; 0 leaves the image as it is.
        window: where the strip lies.

    Returns:
        Display sRGB; strong colours may exceed 1.
    """
    luma = luminance(image)
    gain = (equalized_luma(luma, maps, window) - luma).div_(luma + _DARKEST)
    return torch.addcmul(image, image, gain.mul_(per_image(strength)))


def equalized_luma(luma: Tensor, maps: Tensor, window: Window | None = None) -> Tensor:
    """Each pixel through the mappings of the four nearest tiles, trilinearly; luma ``(B, 1, H, W)``."""
    count, _, height, width = luma.shape
    top, full_height = (window.top, window.full_height) if window else (0, height)
    rows = torch.arange(top, top + height, device=luma.device, dtype=luma.dtype)
    columns = torch.arange(width, device=luma.device, dtype=luma.dtype)
    position = luma.new_empty(count, 1, height, width, 3)  # x, y, z of grid_sample, in [-1, 1]
    position[..., 0] = _tile_position(columns, width, maps.shape[-1])
    position[..., 1] = _tile_position(rows, full_height, maps.shape[-2])[:, None]
    torch.mul(luma, 2.0, out=position[..., 2]).sub_(1.0)
    sampled = F.grid_sample(maps[:, None], position, padding_mode="border", align_corners=True)
    return sampled[:, :, 0]


def _tile_position(pixels: Tensor, size: int, tiles: int) -> Tensor:
    """Where pixel centres lie between tile centres, as grid_sample counts: -1 is the first, 1 the last."""
    tile = ((pixels + 0.5) * (tiles / size) - 0.5).clamp_(0.0, tiles - 1.0)
    return tile * (2.0 / max(1, tiles - 1)) - 1.0
