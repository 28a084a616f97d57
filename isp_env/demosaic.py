"""From a sensor's mosaic to three colours outside LibRaw: bilinear on any device, and half-size previews."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import rawpy
import torch
import torch.nn.functional as F
from kornia.color.raw import CFA, raw_to_rgb
from torch import Tensor

from attiqa.errors import InputError
from isp_env.saturation import Saturation

# kornia names a pattern, as OpenCV does, by the two colours that follow its first pixel's diagonal
_CFA = {"RGGB": CFA.BG, "GRBG": CFA.GB, "BGGR": CFA.RG, "GBRG": CFA.GR}


def bayer_pattern(raw: rawpy.RawPy) -> str | None:
    """Colours of the 2 x 2 cell, read row by row, such as ``"RGGB"``; None where there is no such mosaic."""
    if raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2) or raw.num_colors != 3:
        return None
    letters = raw.color_desc.decode()
    pattern = "".join(letters[number] for number in raw.raw_colors_visible[:2, :2].ravel())
    return pattern if pattern in _CFA else None


def bilinear(mosaic: Tensor, pattern: str) -> Tensor:
    """Bilinear demosaic, by `kornia.color.raw_to_rgb`; the border is mirrored.

    Args:
        mosaic: ``(B, 1, H, W)`` of any size from 3 x 3 and any device, one value a pixel.
        pattern: see `bayer_pattern`.

    Returns:
        ``(B, 3, H, W)``; what the sensor measured stays.

    Raises:
        InputError: the pattern is none of a Bayer sensor's.
    """
    if pattern not in _CFA:
        raise InputError(f"{pattern!r} is no Bayer pattern; take one of {', '.join(_CFA)}.")
    height, width = mosaic.shape[-2:]
    # kornia takes whole cells; mirroring keeps the pattern
    even = F.pad(mosaic, (0, width % 2, 0, height % 2), mode="reflect")
    return raw_to_rgb(even, _CFA[pattern])[..., :height, :width]


@dataclass(frozen=True)
class Mosaic:
    """What a Bayer sensor measured, as it lies, not yet upright.

    Attributes:
        light: float32 ``(H, W)``, black at 0 and saturation at 1.
        colors: int64 ``(H, W)``, what each pixel sees: 0 to 3 for red, green, blue, second green.
        pattern: see `bayer_pattern`.
        flip: see `upright`.
    """

    light: Tensor
    colors: Tensor
    pattern: str
    flip: int

    def limited(self, balance: Tensor, white: float, clip: bool) -> Mosaic:
        """With both greens of one strength and, where asked, each colour cut where it is balanced to white.

        Args:
            balance: gains ``(4,)``, in the order of `colors`; the smallest is 1.
            white: what becomes 1; see `isp_env.saturation`.
            clip: whether to cut.
        """
        even = torch.ones(4)
        even[3] = balance[3] / balance[1]
        light = (self.light / white).clamp_(max=1.0) * even[self.colors]
        return replace(self, light=torch.minimum(light, (even / balance)[self.colors]) if clip else light)

    def demosaicked(self, device: torch.device | str) -> Tensor:
        """Camera linear ``(3, H, W)``, upright, interpolated bilinearly on `device`."""
        image = bilinear(self.light.to(device)[None, None], self.pattern)[0]
        return upright(image, self.flip).contiguous()


def read_mosaic(raw: rawpy.RawPy, saturated: Saturation) -> Mosaic:
    """The mosaic of an opened raw of which nothing has been rendered yet.

    Args:
        raw: the file.
        saturated: what `isp_env.saturation.saturation` says of it; its white becomes 1.

    Raises:
        InputError: the file holds no Bayer mosaic of square pixels.
    """
    pattern = bayer_pattern(raw)
    if pattern is None or abs(raw.sizes.pixel_aspect - 1.0) > 1e-3:
        raise InputError(
            "the file holds no Bayer mosaic of square pixels, which demosaic='bilinear' needs; take another."
        )
    colors = raw.raw_colors_visible
    black = np.array(raw.black_level_per_channel, dtype=np.float32)
    light = raw.raw_image_visible - black[colors]
    return Mosaic(
        torch.from_numpy(light / np.float32(saturated.white - saturated.black)).clamp_(0.0, 1.0),
        torch.from_numpy(colors.astype(np.int64)),
        pattern,
        raw.sizes.flip,
    )


def upright(image: Tensor, flip: int) -> Tensor:
    """Turn ``(..., H, W)`` by LibRaw's flip: bit 4 transposes, bit 2 mirrors rows, bit 1 columns."""
    if flip & 2:
        image = image.flip(-2)
    if flip & 1:
        image = image.flip(-1)
    return image.transpose(-2, -1) if flip & 4 else image


def register_half(image: Tensor, pattern: str, flip: int) -> Tensor:
    """Bring red and blue of a half-size image to the centres of its cells.

    LibRaw makes one pixel of each cell, in which red and blue lie in opposite corners. Each is interpolated
    linearly to the centre, where the mean of the two greens is.

    Args:
        image: ``(3, h, w)``, upright.
        pattern, flip: of the raw.
    """
    planes = list(image.unbind(0))
    for channel, letter in ((0, "R"), (2, "B")):
        cell = torch.tensor([color == letter for color in pattern]).view(2, 2)
        row, column = upright(cell, flip).nonzero()[0].tolist()
        planes[channel] = _towards(_towards(planes[channel], 1 - row, 0), 1 - column, 1)
    return torch.stack(planes)


def _towards(plane: Tensor, end: int, dim: int) -> Tensor:
    """A quarter of the way from each pixel to its neighbour in `dim`: the next one for 1, else the last."""
    size = plane.shape[dim]
    first, last = plane.narrow(dim, 0, 1), plane.narrow(dim, size - 1, 1)
    if end:
        neighbour = torch.cat([plane.narrow(dim, 1, size - 1), last], dim)
    else:
        neighbour = torch.cat([first, plane.narrow(dim, 0, size - 1)], dim)
    return torch.lerp(plane, neighbour, 0.25)
