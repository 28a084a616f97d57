"""Lens shading that a DNG asks a reader to divide out, which LibRaw leaves in.

A phone's or an action camera's lens lets through a half or a quarter of the light at the corners. Its DNG
holds the gains that even that out, as opcodes: GainMap (9), a coarse grid of gains for each place of the
mosaic, and FixVignetteRadial (3), a polynomial of the radius. Their layout and meaning: Digital Negative
Specification 1.6, chapter 7 (opcodes); values in an opcode list are big-endian whatever the file is.

Gains are smooth, so what they multiply here is the demosaicked image: any demosaic will do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor

OPCODE_LIST_2, OPCODE_LIST_3 = 51009, 51022  # TIFF tags: before and after the demosaic
_FIX_VIGNETTE_RADIAL, _GAIN_MAP = 3, 9
# LibRaw applies MapTable and MapPolynomial itself, to the lossy DNGs that need them
_LIBRAWS = (7, 8)
_NAMES = {
    1: "WarpRectilinear",
    2: "WarpFisheye",
    4: "FixBadPixelsConstant",
    5: "FixBadPixelsList",
    6: "TrimBounds",
    10: "DeltaPerRow",
    11: "DeltaPerColumn",
    12: "ScalePerRow",
    13: "ScalePerColumn",
    14: "WarpRectilinear2",
}
_RAW_KINDS = (32803, 34892)  # PhotometricInterpretation: a mosaic, a linear raw
_FLAGS = 1  # optional: a reader that does not know the opcode may go on
_DNG_1_3 = 0x01030000  # the version in which both opcodes came
_HEADER, _AREA, _GRID, _RADIAL = ">4I", ">8I", ">2I4dI", ">7d"
_BAND = 64  # rows at a time: the gains of a whole image would need as much memory as the image


@dataclass(frozen=True)
class GainMap:
    """A grid of gains over the image, between which a reader interpolates linearly; beyond it the edge holds.

    Attributes:
        gains: float32 ``(V, H, P)``: rows, columns, planes; positive.
        area: top, left, bottom, right of the pixels that it is for, in pixels of the sensor's image.
        pitch: rows and columns from one such pixel to the next: (2, 2) picks one place of a Bayer cell.
        planes: first plane and how many; a mosaic has one plane. Where the map has fewer planes, its last one
            serves for the rest.
        spacing, origin: of the grid, vertical and horizontal, as shares of the image's height and width.
    """

    gains: np.ndarray
    area: tuple[int, int, int, int]
    pitch: tuple[int, int] = (1, 1)
    planes: tuple[int, int] = (0, 1)
    spacing: tuple[float, float] = (1.0, 1.0)
    origin: tuple[float, float] = (0.0, 0.0)

    def encoded(self) -> bytes:
        """The opcode as a DNG holds it."""
        grid = (*self.gains.shape[:2], *self.spacing, *self.origin, self.gains.shape[2])
        area = struct.pack(_AREA, *self.area, *self.planes, *self.pitch)
        return _encoded(_GAIN_MAP, area + struct.pack(_GRID, *grid) + self.gains.astype(">f4").tobytes())


@dataclass(frozen=True)
class RadialGain:
    """Gain ``1 + k0 r^2 + k1 r^4 + k2 r^6 + k3 r^8 + k4 r^10``.

    Attributes:
        terms: k0 to k4.
        center: horizontal and vertical place of r = 0, as shares of width and height; r is 1 at the corner
            that is farthest from it.
    """

    terms: tuple[float, float, float, float, float]
    center: tuple[float, float] = (0.5, 0.5)

    def encoded(self) -> bytes:
        """The opcode as a DNG holds it."""
        return _encoded(_FIX_VIGNETTE_RADIAL, struct.pack(_RADIAL, *self.terms, *self.center))


def opcode_list(opcodes: Sequence[GainMap | RadialGain]) -> bytes:
    """What the tags `OPCODE_LIST_2` and `OPCODE_LIST_3` hold."""
    return struct.pack(">I", len(opcodes)) + b"".join(opcode.encoded() for opcode in opcodes)


@dataclass(frozen=True)
class Shading:
    """What a file says of its lens's shading.

    Attributes:
        gains: in the order in which they are to be applied.
        notes: sentences on what is not applied.
    """

    gains: tuple[GainMap | RadialGain, ...] = ()
    notes: tuple[str, ...] = ()

    def even_out(self, image: Tensor, sensor: Sensor) -> None:
        """Multiply the gains onto an image ``(3, h, w)``, camera linear and upright, in place."""
        if not self.gains:
            return
        height, width = image.shape[-2:]
        size = (width, height) if sensor.transposed else (height, width)
        columns = sensor.places(size[1], mirrored=bool(sensor.flip & 1))
        rows = sensor.places(size[0], mirrored=bool(sensor.flip & 2))
        along, across = (columns, rows) if sensor.transposed else (rows, columns)
        for start in range(0, height, _BAND):
            part = along[start : start + _BAND]
            for color, plane in enumerate(image[:, start : start + _BAND]):
                if sensor.transposed:
                    gains = self._gains(color, across, part, sensor).mT
                else:
                    gains = self._gains(color, part, across, sensor)
                plane.mul_(gains.to(plane))

    def _gains(self, color: int, rows: Tensor, columns: Tensor, sensor: Sensor) -> Tensor:
        """Gains ``(rows, columns)`` of one colour, as the sensor lies: the mean of its places."""
        places = [place for place, seen in enumerate(sensor.colors) if seen == color]
        return reduce(torch.add, (self._at(place, rows, columns, sensor) for place in places)) / len(places)

    def _at(self, place: int, rows: Tensor, columns: Tensor, sensor: Sensor) -> Tensor:
        """Gains ``(rows, columns)`` at one place of `Sensor.colors`."""
        factors = (_gain(gain, rows, columns, sensor, place) for gain in self.gains)
        known = [factor for factor in factors if factor is not None]
        return reduce(torch.mul, known) if known else torch.ones(len(rows), len(columns))


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

    @staticmethod
    def places(count: int, mirrored: bool) -> Tensor:
        """Centres of `count` pixels along one side, as shares of it, in upright order."""
        shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return shares.flip(0) if mirrored else shares


def read_shading(path: str | Path) -> Shading:
    """The shading opcodes of a DNG; nothing for other files.

    A list that cannot be read is left out, and a note says so: LibRaw has decoded the picture all the same.
    """
    if Path(path).suffix.lower() != ".dng":
        return Shading()
    gains: list[GainMap | RadialGain] = []
    notes: list[str] = []
    try:
        for entry in _opcode_lists(Path(path)):
            for number, content in _opcodes(entry):
                if number in (_GAIN_MAP, _FIX_VIGNETTE_RADIAL):
                    gains.append(_decoded(number, content))
                elif number not in _LIBRAWS:
                    name = _NAMES.get(number, f"number {number}")
                    notes.append(f"the file asks for the opcode {name}, which is not applied")
    except Exception as error:  # tifffile raises whatever its parser meets in a broken file
        return Shading(notes=(f"the file's opcodes cannot be read ({error}); lens shading stays",))
    return Shading(tuple(gains), tuple(dict.fromkeys(notes)))


def _encoded(number: int, content: bytes) -> bytes:
    return struct.pack(_HEADER, number, _DNG_1_3, _FLAGS, len(content)) + content


def _opcode_lists(path: Path) -> Iterable[bytes]:
    """The lists 2 and 3 of the file's raw image, the largest of those that are no preview."""
    with tifffile.TiffFile(path) as tiff:
        pages = [page for first in tiff.pages for page in (first, *(first.pages or ()))]
        raws = [page for page in pages if page.tags.valueof("PhotometricInterpretation") in _RAW_KINDS]
        if raws:
            largest = max(raws, key=lambda page: page.imagelength * page.imagewidth)
            for tag in (OPCODE_LIST_2, OPCODE_LIST_3):
                if found := largest.tags.valueof(tag):
                    yield bytes(found)


def _opcodes(entry: bytes) -> Iterable[tuple[int, bytes]]:
    """Number and content of each opcode of a list."""
    (count,) = struct.unpack_from(">I", entry)
    offset = 4
    for _ in range(count):
        number, _version, _flags, size = struct.unpack_from(_HEADER, entry, offset)
        offset += struct.calcsize(_HEADER)
        if offset + size > len(entry):
            raise ValueError(f"opcode {number} needs {size} bytes, {len(entry) - offset} are left")
        yield number, entry[offset : offset + size]
        offset += size


def _decoded(number: int, content: bytes) -> GainMap | RadialGain:
    if number == _FIX_VIGNETTE_RADIAL:
        values = struct.unpack_from(_RADIAL, content)
        if not np.isfinite(values).all():
            raise ValueError("a radial gain that is not finite")
        return RadialGain(values[:5], values[5:])
    area = struct.unpack_from(_AREA, content)
    rows, columns, *grid, planes = struct.unpack_from(_GRID, content, struct.calcsize(_AREA))
    start = struct.calcsize(_AREA) + struct.calcsize(_GRID)
    gains = np.frombuffer(content, ">f4", rows * columns * planes, start).astype(np.float32)
    numbers = np.isfinite(gains).all() and np.isfinite(grid).all()
    if not gains.size or not numbers or gains.min() <= 0 or min(grid[:2]) <= 0 or min(area[6:]) < 1:
        raise ValueError("a gain map that is empty or not of positive numbers")
    return GainMap(
        gains.reshape(rows, columns, planes),
        area=area[:4],
        planes=area[4:6],
        pitch=area[6:],
        spacing=tuple(grid[:2]),
        origin=tuple(grid[2:]),
    )


def _gain(
    gain: GainMap | RadialGain, rows: Tensor, columns: Tensor, sensor: Sensor, place: int
) -> Tensor | None:
    """Gain ``(rows, columns)`` at one place of `Sensor.colors`; None where there is none."""
    if isinstance(gain, RadialGain):
        return _radial(gain, rows, columns, sensor)
    plane = _plane(gain, sensor, place)
    if plane is None:
        return None
    # linear interpolation is a product of matrices, rows times grid times columns
    grid = torch.from_numpy(gain.gains[:, :, min(plane, gain.gains.shape[2] - 1)]).float()
    vertical = _weights(rows, gain.origin[0], gain.spacing[0], grid.shape[0])
    horizontal = _weights(columns, gain.origin[1], gain.spacing[1], grid.shape[1])
    gains = vertical @ grid @ horizontal.mT
    top, left, bottom, right = gain.area
    inside = [
        # half a pitch of slack: an area for one place of the cell may end a pixel early
        (shares * size >= first - pitch / 2) & (shares * size <= last + pitch / 2)
        for shares, size, first, last, pitch in (
            (rows, sensor.height, top, bottom, gain.pitch[0]),
            (columns, sensor.width, left, right, gain.pitch[1]),
        )
    ]
    if all(bool(side.all()) for side in inside):
        return gains
    return torch.where(inside[0][:, None] & inside[1], gains, 1.0)


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
    return (1 - (at[:, None] - lines).abs()).clamp(min=0).float()


def _radial(gain: RadialGain, rows: Tensor, columns: Tensor, sensor: Sensor) -> Tensor:
    x = (columns - gain.center[0]) * sensor.width
    y = (rows - gain.center[1]) * sensor.height
    farthest = sum(
        (max(center, 1 - center) * size) ** 2
        for center, size in zip(gain.center, (sensor.width, sensor.height), strict=True)
    )
    squared = ((y**2)[:, None] + x**2).float() / farthest
    gains = torch.zeros_like(squared)
    for term in reversed(gain.terms):
        gains = (gains + term) * squared
    return 1 + gains
