"""Photographs as lenses, sensors, processing, rescaling and codecs leave them, at native resolution.

Unlike those of `attiqa.distortions` these changes are not graded: no label follows from how an image was
made. They only make images of many kinds, which measures of quality then rate (see
`attiqa.training.scene_statistics`). The codecs are the real ones, as Pillow has them. Kinds and ranges are
our choice.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter

from attiqa.distortions import to_display, to_linear
from attiqa.views import WHOLE_SIDE, resize

REGION_SIDE = 288  # three of NIQE's blocks of 96 pixels each way, where the photograph has as many
LEAST_SIDE = 192  # two of them

Change = Callable[[Image.Image, float, np.random.Generator], Image.Image]

_FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


def _between(mild: float, strong: float, amount: float) -> float:
    """Geometric interpolation: equal steps of `amount` in [0, 1] are equal ratios."""
    return mild * (strong / mild) ** amount


def _coded(image: Image.Image, **settings: object) -> Image.Image:
    """What a codec makes of the image."""
    file = io.BytesIO()
    image.save(file, **settings)  # type: ignore[arg-type]
    return Image.open(file).convert("RGB")


def _jpeg(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    subsampling = int(draw.choice([0, 2]))  # 4:4:4 or 4:2:0
    return _coded(image, format="jpeg", quality=round(_between(90, 5, amount)), subsampling=subsampling)


def _webp(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    return _coded(image, format="webp", quality=round(_between(80, 1, amount)), method=2)


def _jpeg2000(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    return _coded(image, format="jpeg2000", quality_layers=[_between(12, 160, amount)], irreversible=True)


def _rescaled(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    down, up = (_FILTERS[index] for index in draw.integers(1, len(_FILTERS), 2))
    if draw.random() < 0.15:
        up = Image.Resampling.NEAREST
    small = [max(8, round(length / _between(1.2, 6, amount))) for length in image.size]
    return image.resize((small[0], small[1]), down).resize(image.size, up)


def _defocused(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    radius = _between(0.4, 5, amount)
    blur = ImageFilter.GaussianBlur(radius) if draw.random() < 0.5 else ImageFilter.BoxBlur(radius)
    return image.filter(blur)


def _moved(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    length = _between(0.7, 8, amount)
    return image.filter(ImageFilter.BoxBlur((length, 0) if draw.random() < 0.5 else (0, length)))


def _noisy(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    """Shot and read noise in linear light; half of the time in the luminance alone."""
    linear = to_linear(torch.from_numpy(np.array(image)).float() / 255)  # (H, W, 3)
    gain = _between(1e-4, 2e-2, amount)
    channels = 1 if draw.random() < 0.5 else 3
    noise = torch.from_numpy(draw.standard_normal((*linear.shape[:2], channels), dtype=np.float32))
    linear = linear + (gain * linear + 0.02 * gain).sqrt() * noise
    levels = (to_display(linear.clamp(0, 1)) * 255).round().clamp(0, 255)
    return Image.fromarray(levels.to(torch.uint8).numpy())


def _smoothed(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    """A median filter: what a heavy denoiser or a painting leaves of texture."""
    return image.filter(ImageFilter.MedianFilter(3 + 2 * round(2 * amount)))


def _oversharpened(image: Image.Image, amount: float, draw: np.random.Generator) -> Image.Image:
    radius = draw.uniform(0.7, 3)
    return image.filter(ImageFilter.UnsharpMask(radius, round(_between(60, 500, amount)), threshold=0))


# in the order in which they befall a photograph
STAGES: tuple[tuple[Change, ...], ...] = (
    (_defocused, _moved),
    (_noisy,),
    (_smoothed, _oversharpened),
    (_rescaled,),
    (_jpeg, _webp, _jpeg2000),
)


def region(photograph: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """A random part of a photograph at a scale between its own and the whole view's.

    Args:
        photograph: uint8 ``(3, H, W)``, display sRGB.
        draw: of scale and place.

    Returns:
        uint8 ``(3, h, w)``, sides between `LEAST_SIDE` and `REGION_SIDE`. Photographs smaller than that are
        enlarged.
    """
    height, width = photograph.shape[-2:]
    smallest = WHOLE_SIDE / math.sqrt(height * width)
    scale = smallest ** draw.random() if smallest < 1 else 1.0
    scale = max(scale, LEAST_SIDE / min(height, width))
    scaled = resize(photograph.unsqueeze(0).float(), round(height * scale), round(width * scale))[0]
    scaled = scaled.round().clamp(0, 255).to(torch.uint8)
    sides = [min(REGION_SIDE, length) for length in scaled.shape[1:]]
    y, x = (
        int(draw.integers(length - side + 1)) for length, side in zip(scaled.shape[1:], sides, strict=True)
    )
    return scaled[:, y : y + sides[0], x : x + sides[1]]


def degrade(image: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """One to three random changes of different stages, each mild to strong.

    Args:
        image: uint8 ``(3, H, W)``, display sRGB.
        draw: of kinds and amounts.

    Returns:
        uint8 of the same shape.
    """
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    count = int(draw.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    for stage in np.sort(draw.choice(len(STAGES), count, replace=False)):
        change = STAGES[stage][draw.integers(len(STAGES[stage]))]
        pixels = change(pixels, float(draw.random()), draw)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
