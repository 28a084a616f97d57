"""Photographs that ship inside scikit-image, in the forms that several tests want."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from skimage import data

from attiqa.images import to_float
from attiqa.views import whole


def whole_views() -> list[torch.Tensor]:
    """Three photographs at the whole view: float32 ``(3, H, W)`` each, display sRGB in [0, 1]."""
    images = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea")]
    tensors = [torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0) for image in images]
    return [whole(to_float(tensor))[0] for tensor in tensors]


def write_corners(folder: Path) -> Path:
    """Write the upper left 256 x 256 pixels of four photographs as PNG; returns `folder`."""
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()[:256, :256]).save(folder / f"{name}.png")
    return folder
