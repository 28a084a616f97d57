"""Photographs held in memory, decoded once, and random crops of them at the network's scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.progress import progress_bar
from attiqa.training.store import Entry
from attiqa.views import WHOLE_SIDE, resize

_KEPT_SIDE = 1.6 * WHOLE_SIDE  # no crop zooms in further, so more pixels would only cost memory


class PhotographPool:
    """uint8 photographs in memory; what cannot be read is kept in `failures` and left out."""

    def __init__(self, sources: Sequence[Path | Entry], progress: bool = False) -> None:
        entries = [item if isinstance(item, Entry) else Entry(str(item), item) for item in sources]
        self.keys: list[str] = []
        self.images: list[torch.Tensor] = []  # uint8 (3, H, W), display sRGB
        self.failures: list[tuple[str, str]] = []
        for entry in progress_bar(entries, desc="decoding", unit="image", shown=progress):
            try:
                self.images.append(_reduced(entry.read()))
                self.keys.append(entry.key)
            except (InputError, OSError) as error:
                self.failures.append((entry.key, str(error)))
        if not self.images:
            raise InputError(
                f"none of {len(entries)} photographs could be read; "
                f"{self.failures[0][1] if self.failures else 'give some.'}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> torch.Tensor:
        """Photograph `index` as kept: float32 ``(1, 3, H, W)``, display sRGB in [0, 1]."""
        return to_float(self.images[index]).unsqueeze(0)

    def crop(self, index: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """A `random_square` of photograph `index`."""
        return random_square(self.image(index), side, generator)


def random_square(image: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """A random square of a photograph, mirrored half the time.

    Args:
        image: float32 ``(1, 3, H, W)``, display sRGB; it is first brought to between 0.9 and 1.5 times the
            whole view's scale.
        side: of the square.
        generator: of scale, place and mirroring.

    Returns:
        float32 ``(3, side, side)``, display sRGB in [0, 1].
    """
    height, width = image.shape[-2:]
    zoom, top, left, mirror = torch.rand(4, generator=generator).tolist()
    scale = max((0.9 + 0.6 * zoom) * WHOLE_SIDE / math.sqrt(height * width), side / min(height, width))
    resized = resize(image, max(side, round(height * scale)), max(side, round(width * scale)))[0]
    y, x = (
        int(part * (length - side + 1)) for part, length in zip((top, left), resized.shape[1:], strict=True)
    )
    crop = resized[:, y : y + side, x : x + side]
    return crop.flip(2) if mirror < 0.5 else crop


def random_window(image: torch.Tensor, generator: torch.Generator, smallest: float = 0.6) -> torch.Tensor:
    """A random window of `smallest` to all of each side of ``(1, 3, H, W)``, mirrored half the time."""
    height, width = image.shape[-2:]
    share, top, left, mirror = torch.rand(4, generator=generator).tolist()
    share = smallest + (1 - smallest) * share
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    y, x = int(top * (height - rows + 1)), int(left * (width - columns + 1))
    window = image[..., y : y + rows, x : x + columns]
    return window.flip(-1) if mirror < 0.5 else window


def _reduced(image: torch.Tensor) -> torch.Tensor:
    height, width = image.shape[-2:]
    scale = min(1.0, _KEPT_SIDE / math.sqrt(height * width))
    small = resize(image.unsqueeze(0).float(), round(height * scale), round(width * scale))[0]
    return small.round().clamp(0, 255).to(torch.uint8)
