"""A DNG's opcode lists, as far as they correct a lens; their layout and how to read and write them.

Layout and meaning: Digital Negative Specification 1.6, chapter 7 (opcodes). Values in an opcode list are
big-endian whatever the file is. `isp_env.lens` applies them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tifffile

from isp_env.dng import CFA, LINEAR_RAW

OPCODE_LIST_2, OPCODE_LIST_3 = 51009, 51022  # TIFF tags: before and after the demosaic
_WARP_RECTILINEAR, _FIX_VIGNETTE_RADIAL, _GAIN_MAP = 1, 3, 9
# LibRaw applies MapTable and MapPolynomial itself, to the lossy DNGs that need them
_LIBRAWS = (7, 8)
_OTHERS = {
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
_OPTIONAL = 1  # flag: a reader that does not know the opcode may go on
_DNG_1_3 = 0x01030000  # the version in which these opcodes came
_HEADER, _AREA, _GRID, _RADIAL = ">4I", ">8I", ">2I4dI", ">7d"


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


@dataclass(frozen=True)
class Warp:
    """Where each pixel of the undistorted image is found in the distorted one (WarpRectilinear).

    With offsets x, y from the centre in units of the distance to the farthest corner, and r^2 = x^2 + y^2, it
    lies at ``x f + t0 2 x y + t1 (r^2 + 2 x^2)``, ``y f + t1 2 x y + t0 (r^2 + 2 y^2)``, where
    ``f = k0 + k1 r^2 + k2 r^4 + k3 r^6``.

    Attributes:
        planes: k0 to k3, t0, t1 of each colour; one for all, or one each.
        center: horizontal and vertical, as shares of width and height.
    """

    planes: tuple[tuple[float, ...], ...]
    center: tuple[float, float] = (0.5, 0.5)

    def encoded(self) -> bytes:
        """The opcode as a DNG holds it."""
        terms = [term for plane in self.planes for term in plane]
        content = struct.pack(f">I{len(terms) + 2}d", len(self.planes), *terms, *self.center)
        return _encoded(_WARP_RECTILINEAR, content)


Opcode: TypeAlias = GainMap | RadialGain | Warp


def opcode_list(opcodes: Sequence[Opcode]) -> bytes:
    """What the tags `OPCODE_LIST_2` and `OPCODE_LIST_3` hold."""
    return struct.pack(">I", len(opcodes)) + b"".join(opcode.encoded() for opcode in opcodes)


def read_opcodes(path: str | Path) -> tuple[tuple[Opcode, ...], tuple[str, ...]]:
    """The opcodes of a DNG that correct its lens, in the order in which they are to be applied.

    Returns:
        Opcodes, none for other files; and sentences on those that are left out. A list that cannot be read is
        one: LibRaw decodes the picture all the same.
    """
    if Path(path).suffix.lower() != ".dng":
        return (), ()
    found: list[Opcode] = []
    notes: list[str] = []
    try:
        for entry in _opcode_lists(Path(path)):
            for number, content in _opcodes(entry):
                if number in _DECODERS:
                    found.append(_DECODERS[number](content))
                elif number not in _LIBRAWS:
                    name = _OTHERS.get(number, f"number {number}")
                    notes.append(f"the file asks for the opcode {name}, which is not applied")
    except Exception as error:  # tifffile raises whatever its parser meets in a broken file
        return (), (f"the file's opcodes cannot be read ({error}); its lens is not corrected",)
    return tuple(found), tuple(dict.fromkeys(notes))


def _encoded(number: int, content: bytes) -> bytes:
    return struct.pack(_HEADER, number, _DNG_1_3, _OPTIONAL, len(content)) + content


def _opcode_lists(path: Path) -> Iterable[bytes]:
    """The lists 2 and 3 of the file's raw image, the largest of those that are no preview."""
    with tifffile.TiffFile(path) as tiff:
        pages = [page for first in tiff.pages for page in (first, *(first.pages or ()))]
        raws = [page for page in pages if page.tags.valueof("PhotometricInterpretation") in (CFA, LINEAR_RAW)]
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


def _warp(content: bytes) -> Warp:
    (count,) = struct.unpack_from(">I", content)
    if count not in (1, 3):
        raise ValueError(f"a warp of {count} planes")
    *terms, x, y = _finite(struct.unpack_from(f">{6 * count + 2}d", content, 4))
    return Warp(tuple(tuple(terms[6 * plane : 6 * plane + 6]) for plane in range(count)), (x, y))


def _radial_gain(content: bytes) -> RadialGain:
    k0, k1, k2, k3, k4, x, y = _finite(struct.unpack_from(_RADIAL, content))
    return RadialGain((k0, k1, k2, k3, k4), (x, y))


def _gain_map(content: bytes) -> GainMap:
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


def _finite(values: tuple[float, ...]) -> tuple[float, ...]:
    if not np.isfinite(values).all():
        raise ValueError("an opcode whose numbers are not finite")
    return values


_DECODERS: dict[int, Callable[[bytes], Opcode]] = {
    _WARP_RECTILINEAR: _warp,
    _FIX_VIGNETTE_RADIAL: _radial_gain,
    _GAIN_MAP: _gain_map,
}
