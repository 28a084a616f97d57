"""What an agent sees of a render: thumbnail, histogram, clipping. Display sRGB in, one row an image out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces

THUMBNAIL = 64  # pixels a side; SB3 asks for at least 36
BINS = 16
PADDING = 128  # around a thumbnail that is not square: middle grey

# Rec. 709 luma weights on display values (ITU-R BT.709-6, item 3.2)
_LUMA = (0.2126, 0.7152, 0.0722)
# A channel that lands on 0 or 255 in an 8-bit file is clipped
_LOW, _HIGH = 0.5 / 255.0, 254.5 / 255.0
# Every fourth pixel each way settles shares of a preview to well under one percent
_STRIDE = 4


def thumbnail(images: torch.Tensor) -> torch.Tensor:
    """Area-average the long side to 64 pixels and centre the result on a grey square.

    Args:
        images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1].

    Returns:
        uint8 ``(B, 3, 64, 64)``, display sRGB in [0, 255]; the aspect ratio is kept.
    """
    height, width = images.shape[-2:]
    scale = THUMBNAIL / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = F.interpolate(images, size=(rows, columns), mode="area")
    square = small.new_full((len(images), 3, THUMBNAIL, THUMBNAIL), PADDING / 255.0)
    top, left = (THUMBNAIL - rows) // 2, (THUMBNAIL - columns) // 2
    square[:, :, top : top + rows, left : left + columns] = small
    return (square * 255.0).round_().clamp_(0, 255).to(torch.uint8)


def histogram(images: torch.Tensor) -> torch.Tensor:
    """Shares of pixels in 16 equal bins of luma, red, green and blue.

    Args:
        images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1].

    Returns:
        float32 ``(B, 64)`` in [0, 1]; each of the four runs of 16 sums to one.
    """
    small = images[:, :, ::_STRIDE, ::_STRIDE]
    weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    planes = torch.cat([(small * weights).sum(dim=1, keepdim=True), small], dim=1).flatten(2)  # (B, 4, n)
    bins = (planes * BINS).long().clamp_(0, BINS - 1)
    first = torch.arange(len(images) * 4, device=images.device).view(-1, 4, 1) * BINS
    counts = torch.bincount((bins + first).flatten(), minlength=len(images) * 4 * BINS)
    return counts.view(len(images), 4 * BINS).to(torch.float32) / planes.shape[-1]


def clipping(images: torch.Tensor) -> torch.Tensor:
    """Shares of pixels whose channels are at 0 or 255 once written with 8 bits.

    Args:
        images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1].

    Returns:
        float32 ``(B, 6)``: the shares at 0 in red, green, blue, then at 255.
    """
    small = images[:, :, ::_STRIDE, ::_STRIDE]
    ends = torch.cat([small <= _LOW, small >= _HIGH], dim=1)
    return ends.float().mean(dim=(2, 3))


def observation_spaces(features: int) -> dict[str, spaces.Space]:
    """The spaces of what is seen of a render; `features` is their number, 0 for none."""
    seen: dict[str, spaces.Space] = {
        "thumbnail": spaces.Box(0, 255, (3, THUMBNAIL, THUMBNAIL), np.uint8),
        "histogram": spaces.Box(0.0, 1.0, (4 * BINS,), np.float32),
        "clipping": spaces.Box(0.0, 1.0, (6,), np.float32),
    }
    if features:
        limit = np.finfo(np.float32).max
        seen["features"] = spaces.Box(-limit, limit, (features,), np.float32)
    return seen
