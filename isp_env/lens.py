"""What a DNG says of its lens, applied: shading evened out, distortion straightened. LibRaw leaves both in.

A phone's or an action camera's lens lets through a half or a quarter of the light at the corners, bends
straight lines and shifts colours against each other. Its DNG holds the mend, as opcodes: `GainMap`,
`RadialGain`, `Warp`. Gains are smooth, so what they multiply is the demosaicked image: any demosaic will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from isp_env.opcodes import GainMap, Opcode, RadialGain, Warp

_BAND = 64  # rows at a time: gains and places of a whole image would need more memory than the image
_STILL = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # the terms of a warp that moves nothing


def corrected(image: Tensor, opcodes: Sequence[Opcode], sensor: Sensor) -> Tensor:
    """An image as its lens would have drawn it without shading and distortion.

    Args:
        image: ``(3, h, w)``, camera linear and upright, at any scale of the sensor; overwritten.
        opcodes: what to apply, in order.
        sensor: how the pixels lay.

    Returns:
        ``(3, h, w)``; its values may exceed those of `image`, and at edges fall below 0.
    """
    lying = image.mT if sensor.transposed else image
    gains: list[GainMap | RadialGain] = []  # they are multiplied together, up to the next warp
    for opcode in opcodes:
        if not isinstance(opcode, Warp):
            gains.append(opcode)
            continue
        _even_out(lying, gains, sensor)
        lying, gains = _straightened(lying, opcode, sensor), []
    _even_out(lying, gains, sensor)
    return lying.mT.contiguous() if sensor.transposed else lying


@dataclass(frozen=True)
class Sensor:
    """How a sensor's pixels lie.

    Attributes:
        height, width: of the sensor's image, before it is turned upright.
        flip: see `isp_env.demosaic.upright`.
        pattern: colours of a Bayer cell, see `isp_env.demosaic.bayer_pattern`; None for other mosaics and for
            raws without one.
        mosaic: whether there is one colour a pixel.
    """

    height: int
    width: int
    flip: int = 0
    pattern: str | None = None
    mosaic: bool = True

    @property
    def colors(self) -> tuple[int, ...]:
        """What is seen at each place that gains tell apart: those of a Bayer cell, else the three colours."""
        return tuple("RGB".index(letter) for letter in self.pattern or "RGB")

    @property
    def transposed(self) -> bool:
        """Whether upright rows are the sensor's columns."""
        return bool(self.flip & 4)

    def axes(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Centres of an image's rows and columns as shares of the sensor's sides, float64 on the CPU.

        The image is upright but for a transpose, which has been undone; its sides may still be mirrored.
        """
        height, width = image.shape[-2:]
        rows, columns = (
            (torch.arange(count, dtype=torch.float64) + 0.5) / count for count in (height, width)
        )
        return rows.flip(0) if self.flip & 2 else rows, columns.flip(0) if self.flip & 1 else columns


def _even_out(image: Tensor, gains: Sequence[GainMap | RadialGain], sensor: Sensor) -> None:
    """Multiply gains onto an image that lies as the sensor does, in place."""
    for color, plane in enumerate(image if gains else ()):
        places = [place for place, seen in enumerate(sensor.colors) if seen == color]
        factors = [
            [factor for gain in gains if (factor := _factor(gain, image, sensor, place))] for place in places
        ]
        for start in range(0, len(plane), _BAND):
            band = slice(start, start + _BAND)
            each = [reduce(torch.mul, (factor(band) for factor in known)) for known in factors if known]
            if len(each) < len(places):
                each += [torch.ones_like(plane[band])] * (len(places) - len(each))
            plane[band] *= reduce(torch.add, each) / len(each) if len(each) > 1 else each[0]


def _factor(
    gain: GainMap | RadialGain, image: Tensor, sensor: Sensor, place: int
) -> Callable[[slice], Tensor] | None:
    """What makes gains ``(band, w)`` of a band of rows, at a place of `Sensor.colors`; None for none."""
    rows, columns = sensor.axes(image)
    if isinstance(gain, RadialGain):
        x, y = (offsets.to(image) for offsets in _offsets(gain.center, rows, columns, sensor))
        across, down = x**2, (y**2)[:, None]
        return lambda band: _polynomial(gain.terms, down[band] + across)
    plane = _plane(gain, sensor, place)
    if plane is None:
        return None
    # linear interpolation is a product of matrices, rows times grid times columns
    grid = torch.from_numpy(gain.gains[:, :, min(plane, gain.gains.shape[2] - 1)]).double()
    vertical = (_weights(rows, gain.origin[0], gain.spacing[0], grid.shape[0]) @ grid).to(image)
    horizontal = _weights(columns, gain.origin[1], gain.spacing[1], grid.shape[1]).mT.to(image).contiguous()
    top, left, bottom, right = gain.area
    above, beside = (
        # half a pitch of slack: an area for one place of the cell may end a pixel early
        ((shares * size >= first - pitch / 2) & (shares * size <= last + pitch / 2)).to(image.device)
        for shares, size, first, last, pitch in (
            (rows, sensor.height, top, bottom, gain.pitch[0]),
            (columns, sensor.width, left, right, gain.pitch[1]),
        )
    )
    if above.all() and beside.all():
        return lambda band: vertical[band] @ horizontal
    return lambda band: torch.where(above[band, None] & beside, vertical[band] @ horizontal, 1.0)


def _plane(gain: GainMap, sensor: Sensor, place: int) -> int | None:
    """Which plane of the map serves a place; None where the map leaves it alone."""
    if sensor.mosaic:
        if gain.pitch == (1, 1):
            return 0
        if sensor.pattern is None or any(pitch not in (1, 2) for pitch in gain.pitch):
            return None  # another cell than Bayer's: no such file is known
        touched = (
            pitch == 1 or first % 2 == at
            for pitch, first, at in zip(gain.pitch, gain.area[:2], divmod(place, 2), strict=True)
        )
        return 0 if all(touched) else None
    plane = place - gain.planes[0]
    return plane if 0 <= plane < gain.planes[1] else None


def _weights(shares: Tensor, origin: float, spacing: float, count: int) -> Tensor:
    """Weights ``(n, count)`` of the grid's lines at each place; beyond the grid the last line holds."""
    at = ((shares - origin) / spacing if count > 1 else torch.zeros_like(shares)).clamp(0, count - 1)
    lines = torch.arange(count, dtype=torch.float64)
    return (1 - (at[:, None] - lines).abs()).clamp(min=0)


def _polynomial(terms: Sequence[float], squared: Tensor) -> Tensor:
    """``1 + k0 r^2 + k1 r^4 + ...``"""
    gains = torch.zeros_like(squared)
    for term in reversed(terms):
        gains = (gains + term) * squared
    return 1 + gains


def _offsets(
    center: tuple[float, float], rows: Tensor, columns: Tensor, sensor: Sensor
) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical offsets from a centre, in units of the distance to the farthest corner."""
    farthest = _farthest(center, sensor)
    x = (columns - center[0]) * sensor.width / farthest
    y = (rows - center[1]) * sensor.height / farthest
    return x.float(), y.float()


def _farthest(center: tuple[float, float], sensor: Sensor) -> float:
    """Pixels from a centre to the corner that is farthest from it."""
    sides = zip(center, (sensor.width, sensor.height), strict=True)
    return float(sum((max(share, 1 - share) * size) ** 2 for share, size in sides) ** 0.5)


def _straightened(image: Tensor, warp: Warp, sensor: Sensor) -> Tensor:
    """An image that lies as the sensor does, resampled bicubically; beyond its edges is the edge."""
    rows, columns = sensor.axes(image)
    straight = image.clone()
    for start in range(0, len(rows), _BAND):
        for terms, colors in _planes(warp):
            grid = _places(terms, warp.center, rows[start : start + _BAND], columns, sensor).to(image)
            straight[colors, start : start + _BAND] = _sampled(image[colors], grid)
    return straight


def _sampled(image: Tensor, grid: Tensor) -> Tensor:
    """An image ``(C, H, W)`` at the places ``(h, w, 2)`` of `grid`: ``(C, h, w)``."""
    # on a CPU torch shares out the work by the entries of a batch: each row is one
    batch = image.expand(len(grid), -1, -1, -1)
    rows = F.grid_sample(batch, grid[:, None], "bicubic", "border", align_corners=False)
    return rows[:, :, 0].transpose(0, 1)


def _planes(warp: Warp) -> list[tuple[tuple[float, ...], slice]]:
    """The terms of a warp and the colours that each moves; those that stay are left out."""
    whole = len(warp.planes) == 1
    colors = [slice(None)] if whole else [slice(color, color + 1) for color in range(3)]
    each = zip(warp.planes, colors, strict=True)
    return [(terms, moved) for terms, moved in each if tuple(terms) != _STILL]


def _places(
    terms: tuple[float, ...], center: tuple[float, float], rows: Tensor, columns: Tensor, sensor: Sensor
) -> Tensor:
    """Where the pixels of some rows are found: ``(rows, columns, 2)``, as `grid_sample` counts."""
    k0, k1, k2, k3, t0, t1 = terms
    x, y = _offsets(center, rows, columns, sensor)
    squared = (y**2)[:, None] + x**2
    scale = k0 + squared * (k1 + squared * (k2 + squared * k3))
    # `grid_sample` counts from -1 to 1, and a mirrored side the other way round
    wide, high = (
        2 * _farthest(center, sensor) / size * (-1 if sensor.flip & bit else 1)
        for size, bit in ((sensor.width, 1), (sensor.height, 2))
    )
    column, row = scale * (wide * x), scale * (high * y)[:, None]
    if t0 or t1:
        crossed = 2 * y[:, None] * x
        column += wide * (t0 * crossed + t1 * (squared + 2 * x**2))
        row += high * (t1 * crossed + t0 * (squared + 2 * (y**2)[:, None]))
    column += (2 * center[0] - 1) * (-1 if sensor.flip & 1 else 1)
    row += (2 * center[1] - 1) * (-1 if sensor.flip & 2 else 1)
    return torch.stack([column, row], dim=-1)
