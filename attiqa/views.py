"""How an image of any size is shown to a network: whole, five crops, the centre, or every pixel."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from attiqa.errors import InputError

VIEWS = ("whole", "five", "centre", "full")

WHOLE_SIDE = 224  # the whole view holds about 224 x 224 pixels, whatever the aspect ratio
SHORT_SIDE, CROP_SIDE = 340, 320  # arXiv 2406.01020, section 4.1


def resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Antialiased bilinear resize of ``(B, 3, H, W)``; images that have the size are returned as they are."""
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


def whole(images: torch.Tensor, side: int = WHOLE_SIDE) -> torch.Tensor:
    """The whole image, aspect kept, at about ``side * side`` pixels.

    A panorama's short side is held at a third of `side`, so that the network's last stage still has rows.
    """
    height, width = images.shape[-2:]
    scale = max(side / math.sqrt(height * width), side / 3 / min(height, width))
    return resize(images, max(1, round(height * scale)), max(1, round(width * scale)))


def short_side(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize so that the short side has `side` pixels, aspect kept."""
    scale = side / min(images.shape[-2:])
    return resize(images, *(max(side, round(length * scale)) for length in images.shape[-2:]))


def five_crops(images: torch.Tensor, side: int = CROP_SIDE) -> torch.Tensor:
    """Four corners and the centre, ``(B, 5, 3, side, side)``; the images must be at least that large."""
    bottom, right = (length - side for length in images.shape[-2:])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return torch.stack([images[..., y : y + side, x : x + side] for y, x in corners], dim=1)


def look(images: torch.Tensor, view: str) -> torch.Tensor:
    """Cut the named view out of a batch.

    Args:
        images: float32 ``(B, 3, H, W)``, display sRGB.
        view: ``whole`` (about 224 x 224 pixels, the reward's view), ``five`` (short side 340, five 320 crops:
            the paper's test protocol), ``centre`` (its centre crop alone), ``full`` (native resolution).

    Returns:
        ``(B, V, 3, h, w)``; a score of the image is the mean over its V crops.
    """
    if view == "whole":
        return whole(images).unsqueeze(1)
    if view == "full":
        return images.unsqueeze(1)
    if view in ("five", "centre"):
        crops = five_crops(short_side(images, SHORT_SIDE))
        return crops if view == "five" else crops[:, -1:]
    raise InputError(f"there is no view {view!r}; choose one of {', '.join(VIEWS)}.")
