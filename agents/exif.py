"""What a source file says about the photograph, as far as it stays true of a new rendering."""

from __future__ import annotations

import io
import struct
import warnings
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import rawpy
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from isp_env.sources import is_photograph

# Of the first directory, what describes the photograph. Left behind: sizes, offsets and thumbnails of the
# source file, and its orientation, because pixels are written upright.
DESCRIPTION = frozenset(
    {Base.ImageDescription, Base.Make, Base.Model, Base.DateTime, Base.Artist, Base.Copyright}
)
# Of the second: maker notes hold offsets into the source, the others describe its pixels
_LEFT = {
    Base.MakerNote,
    Base.UserComment,
    Base.ExifInteroperabilityOffset,
    Base.ExifImageWidth,
    Base.ExifImageHeight,
    Base.ComponentsConfiguration,
    Base.CompressedBitsPerPixel,
    Base.CFAPattern,
}
_EXPOSURE = {Base.ExposureTime, Base.FNumber, Base.FocalLength, Base.ISOSpeedRatings}
_SRGB, _UPRIGHT = 1, 1
_TIFF = {b"II*\0", b"MM\0*"}
# Panasonic's and Olympus' raws are TIFFs under names of their own
_RENAMED_TIFF = {b"IIU\0": b"II*\0", b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"MMOR": b"MM\0*"}

# what Pillow and LibRaw raise on entries that a maker bent, besides the errors of the file system
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, KeyError, TypeError, OverflowError, struct.error),
    rawpy.LibRawError,
)


def read_exif(path: Path) -> Image.Exif:
    """What a file's EXIF says about the photograph; little more than "upright" where it has none.

    Raws built like TIFF (DNG, NEF, CR2, ARW and most others) are read at their first directory, others at
    that of the JPEG preview inside them; what that leaves out of the exposure, LibRaw may know.
    """
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of every tag that a maker bent
        carried = _carried(Image.Exif())
        with suppress(*_UNREADABLE):
            found = _read(path)
            found.tobytes()
            carried = found
        details = carried.get_ifd(IFD.Exif)
        if is_photograph(path):
            return carried
        if Base.DateTime in carried:  # a raw is written when it is shot
            details.setdefault(Base.DateTimeOriginal, carried[Base.DateTime].decode("latin-1"))
        if not details.keys() >= _EXPOSURE:
            with suppress(*_UNREADABLE):
                details.update(_from_libraw(path) | details)
    return carried


def _carried(source: Image.Exif) -> Image.Exif:
    """The entries of `source` that stay true of a new, upright rendering in sRGB."""
    kept = Image.Exif()
    # Pillow reads each byte as one of Latin-1 and would write ASCII alone: bytes keep whatever it was
    words = {
        tag: str(source[tag]).strip(" \0").encode("latin-1", "replace") for tag in DESCRIPTION & set(source)
    }
    kept.update({tag: text for tag, text in words.items() if text})
    kept[Base.Orientation], kept[Base.Software] = _UPRIGHT, "attiqa"
    details = {tag: value for tag, value in source.get_ifd(IFD.Exif).items() if tag not in _LEFT}
    kept.get_ifd(IFD.Exif).update({Base.ExifVersion: b"0232"} | details | {Base.ColorSpace: _SRGB})
    position = source.get_ifd(IFD.GPSInfo)
    if position:
        kept.get_ifd(IFD.GPSInfo).update(position)
    return kept


def _read(path: Path) -> Image.Exif:
    """What is carried from a file's own EXIF, read before the file is closed because Pillow is lazy."""
    if is_photograph(path):
        with Image.open(path) as picture:
            return _carried(picture.getexif())
    exif = Image.Exif()
    with path.open("rb") as file:
        head = file.read(4)
        if head in _TIFF or head in _RENAMED_TIFF:
            name = _RENAMED_TIFF.get(head)
            whole = io.BytesIO(name + file.read()) if name else file
            whole.seek(0)
            exif.load_from_fp(whole)
            return _carried(exif)
    with rawpy.imread(str(path)) as raw:
        thumbnail = raw.extract_thumb()
    if thumbnail.format == rawpy.ThumbFormat.JPEG:
        with Image.open(io.BytesIO(bytes(thumbnail.data))) as picture:
            return _carried(picture.getexif())
    return _carried(exif)


def _from_libraw(path: Path) -> dict[int, Any]:
    """The exposure as LibRaw understood the maker's own format; empty where it did not."""
    with rawpy.imread(str(path)) as raw:
        other = getattr(raw, "other", None)  # rawpy 0.25 and newer
    if other is None:
        return {}
    measured = {
        Base.ExposureTime: other.shutter_speed,
        Base.FNumber: other.aperture,
        Base.FocalLength: other.focal_length,
    }
    # as fractions, which EXIF asks for; of a bare number Pillow makes a DOUBLE, which few readers know
    fractions = {tag: Fraction(value).limit_denominator(100_000) for tag, value in measured.items()}
    found: dict[int, Any] = {tag: IFDRational(value) for tag, value in fractions.items() if value > 0}
    sensitivity = round(other.iso_speed)
    return found | ({Base.ISOSpeedRatings: sensitivity} if sensitivity > 0 else {})
