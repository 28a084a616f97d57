"""Graded distortions of photographs, each monotone in its level and exactly the identity at level zero.

They label images for pretraining (the level is the label), they are the first proxy task of prompt selection
(section 3.3 of arXiv 2406.01020), and they make pairs of known order. The levels are ours: the paper gives
none. Sizes are fractions of the image's side, so a level means the same at every resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from attiqa.errors import InputError

Operator = Callable[[torch.Tensor, torch.Tensor, torch.Generator | None], torch.Tensor]

MIDDLE_GREY = 0.4613  # 18 % reflectance, sRGB encoded
_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF 1.02

# ITU-T T.81, tables K.1 and K.2, by rows
_QUANTA_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 "
    "72 92 95 98 112 100 103 99"
)
_QUANTA_CHROMA = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 "
) + "99 " * 32


@dataclass(frozen=True)
class Distortion:
    """A graded change of display sRGB images.

    Attributes:
        name: how data files and label tables call it.
        two_sided: levels run over [-1, 1] if so, else over [-1, 0]; negative lowers the attribute.
        operator: ``(images (B, 3, H, W), levels (B,), generator) -> images``.
        doc: what the ends of the scale are.
    """

    name: str
    two_sided: bool
    operator: Operator
    doc: str

    @property
    def high(self) -> float:
        """The upper end of the levels."""
        return 1.0 if self.two_sided else 0.0

    def __call__(
        self, images: torch.Tensor, levels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Distort float32 ``(B, 3, H, W)`` display sRGB in [0, 1], one level ``(B,)`` an image."""
        rows = levels.nonzero().squeeze(1)  # the others stay bit for bit what they were
        if not len(rows):
            return images
        changed = self.operator(images[rows], levels[rows].view(-1, 1, 1, 1), generator).clamp(0, 1)
        return images.index_copy(0, rows, changed)


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with one `sigma` (pixels) an image, ``(B,)`` or a broadcast of it; reflecting borders.

    The kernel is the Gaussian integrated over each pixel, so that widths below one pixel are graded too.
    """
    B, C, H, W = images.shape
    sigma = sigma.reshape(B, 1).clamp(min=1e-3)
    radius = min(max(1, math.ceil(3 * float(sigma.max()))), H - 1, W - 1)
    edges = torch.arange(-radius, radius + 2, device=images.device) - 0.5
    kernel = torch.special.ndtr(edges / sigma).diff(dim=1)  # (B, taps)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(C, 0)  # (B * C, taps)
    flat = F.pad(images.reshape(1, B * C, H, W), (radius,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=B * C)
    return F.conv2d(flat, kernel[:, None, None, :], groups=B * C).view(B, C, H, W)


def luma(images: torch.Tensor) -> torch.Tensor:
    """BT.709 weighted sum over channels, ``(B, 1, H, W)``, of linear or encoded sRGB alike."""
    return (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def to_linear(images: torch.Tensor) -> torch.Tensor:
    """Display sRGB to linear sRGB (IEC 61966-2-1)."""
    return torch.where(images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_display(images: torch.Tensor) -> torch.Tensor:
    """Linear sRGB to display sRGB (IEC 61966-2-1)."""
    return torch.where(
        images <= 0.0031308, images * 12.92, 1.055 * images.clamp(min=1e-6) ** (1 / 2.4) - 0.055
    )


def _side(images: torch.Tensor) -> float:
    return math.sqrt(images.shape[-2] * images.shape[-1])


def _sharpness(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    fine = 0.005 * _side(images)
    sigma = torch.where(level < 0, -0.0135 * _side(images) * level, torch.full_like(level, fine))
    blurred = blur(images, sigma)
    return torch.where(level < 0, blurred, images + 3 * level * (images - blurred))


def _haze(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    linear, airlight = to_linear(images), 0.8
    return to_display(linear + 0.7 * level.abs() * (airlight - linear))


def _brightness(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    return to_display(to_linear(images) * 2 ** (2.5 * level))


def _channel_gains(images: torch.Tensor, stops: torch.Tensor) -> torch.Tensor:
    """Gains of ``stops`` (B, 3, 1, 1) EV in linear light, the luminance of each image kept."""
    linear = to_linear(images)
    cast = linear * 2**stops
    kept = luma(linear).mean((2, 3), keepdim=True) / luma(cast).mean((2, 3), keepdim=True).clamp(min=1e-6)
    return to_display(cast * kept)


def _warmth(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    return _channel_gains(images, torch.cat([0.9 * level, 0 * level, -0.9 * level], dim=1))


def _tint(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    return _channel_gains(images, torch.cat([0.45 * level, -0.45 * level, 0.45 * level], dim=1))


def _contrast(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    factor = torch.where(level < 0, 1 + 0.85 * level, 1 + 1.5 * level)
    return MIDDLE_GREY + factor * (images - MIDDLE_GREY)


def _colorfulness(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    grey = luma(images)
    return grey + torch.where(level < 0, 1 + level, 1 + 1.5 * level) * (images - grey)


def _noisiness(images: torch.Tensor, level: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Gaussian noise; how grey and how coarse its grain is, is drawn for each image."""
    device, (B, C, H, W) = images.device, images.shape
    grey = torch.rand(B, 1, 1, 1, generator=generator, device=device)
    noise = grey.sqrt() * torch.randn(B, 1, H, W, generator=generator, device=device)
    noise = noise + (1 - grey).sqrt() * torch.randn(B, C, H, W, generator=generator, device=device)
    size = torch.rand(B, generator=generator, device=device)
    coarse = torch.rand(B, generator=generator, device=device)
    grain = 0.8 * size * (coarse < 0.5)
    noise = blur(noise, grain)
    noise = noise / noise.std((1, 2, 3), keepdim=True)
    return images + 0.16 * level.abs() ** 1.3 * noise


def _blocks(images: torch.Tensor, level: torch.Tensor, _: torch.Generator | None) -> torch.Tensor:
    """JPEG's loss: 8 x 8 DCT and quantisation (T.81), without chroma subsampling."""
    B, _c, H, W = images.shape
    ycc = torch.einsum("dc,bchw->bdhw", images.new_tensor(_YCC), images * 255)
    ycc = F.pad(ycc, (0, -W % 8, 0, -H % 8), mode="replicate")
    tiles = ycc.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))  # (B, 3, rows, 8, columns, 8)
    basis = _dct_basis(images)
    coefficients = torch.einsum("ui,vj,bcrisj->bcrusv", basis, basis, tiles)
    quanta = torch.stack([images.new_tensor([float(q) for q in table.split()]).view(8, 8)
                          for table in (_QUANTA_LUMA, _QUANTA_CHROMA, _QUANTA_CHROMA)])  # fmt: skip
    step = 6 * level.view(B, 1, 1, 1, 1, 1) ** 2 * quanta[None, :, None, :, None, :]
    coefficients = torch.round(coefficients / step.clamp(min=1e-3)) * step.clamp(min=1e-3)
    tiles = torch.einsum("ui,vj,bcrusv->bcrisj", basis, basis, coefficients)
    ycc = tiles.flatten(4, 5).flatten(2, 3)[..., :H, :W]
    return torch.einsum("dc,bchw->bdhw", torch.linalg.inv(images.new_tensor(_YCC)), ycc) / 255


def _dct_basis(like: torch.Tensor) -> torch.Tensor:
    """The orthonormal 8-point DCT-II, ``(frequency, position)``."""
    angle = torch.arange(8.0).view(8, 1) * (torch.arange(8.0) + 0.5) * math.pi / 8
    basis = torch.cos(angle) * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    return basis.to(like)


# in the order in which `distort` applies them: optics, air, light, colour, tone, sensor, storage
DISTORTIONS: dict[str, Distortion] = {
    distortion.name: distortion
    for distortion in (
        Distortion(
            "sharpness", True, _sharpness, "Gaussian blur of 1.35 % of the side; unsharp mask, amount 3"
        ),
        Distortion("haze", False, _haze, "70 % airlight"),
        Distortion("brightness", True, _brightness, "-2.5 EV; +2.5 EV, clipped"),
        Distortion("warmth", True, _warmth, "blue cast; orange cast: 1.8 EV between red and blue"),
        Distortion("tint", True, _tint, "green cast; magenta cast: 0.9 EV between green and the others"),
        Distortion("contrast", True, _contrast, "15 % of the contrast; 250 %, clipped"),
        Distortion("colorfulness", True, _colorfulness, "grey; saturation 250 %"),
        Distortion("noisiness", False, _noisiness, "noise of standard deviation 0.16"),
        Distortion("blocks", False, _blocks, "JPEG at 6 times the standard's example tables"),
    )
}


def distort(
    images: torch.Tensor, levels: dict[str, torch.Tensor], generator: torch.Generator | None = None
) -> torch.Tensor:
    """Apply several distortions at once, always in the order of `DISTORTIONS`.

    Args:
        images: float32 ``(B, 3, H, W)``, display sRGB in [0, 1].
        levels: distortion name to ``(B,)`` levels.
        generator: source of the noise, on the device of the images.

    Returns:
        Images of the same form; rows whose levels are all zero are unchanged.
    """
    unknown = sorted(levels.keys() - DISTORTIONS.keys())
    if unknown:
        raise InputError(f"there is no distortion {unknown[0]!r}; there are {', '.join(DISTORTIONS)}.")
    for name, distortion in DISTORTIONS.items():
        if name in levels:
            images = distortion(images, levels[name], generator)
    return images
