"""Writing finished pictures: JPEG, 16-bit PNG, 16-bit TIFF; sRGB profile inside, EXIF carried over."""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms, TiffTags
from PIL.ExifTags import IFD, Base

from attiqa.files import atomic_path

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}

# What describes the photograph. Left behind: sizes, offsets and thumbnails of the source file, maker notes
# (they hold offsets into it), and its orientation, because pixels are written upright.
_KEPT = {Base.ImageDescription, Base.Make, Base.Model, Base.DateTime, Base.Artist, Base.Copyright}
_LEFT_EXIF = {
    Base.MakerNote,
    Base.UserComment,
    Base.ExifInteroperabilityOffset,
    Base.ExifImageWidth,
    Base.ExifImageHeight,
    Base.ComponentsConfiguration,
    Base.CompressedBitsPerPixel,
    Base.CFAPattern,
}
_SRGB, _UPRIGHT = 1, 1


def write_picture(path: Path, image: torch.Tensor, kind: str, quality: int, exif: Image.Exif) -> None:
    """Write a picture atomically.

    Args:
        path: the file.
        image: float32 ``(3, H, W)``, display sRGB in [0, 1].
        kind: ``jpeg`` (8 bits), ``png`` or ``tiff`` (16 bits a channel).
        quality: of a JPEG, 1 to 100; from 90 on its colour is not subsampled.
        exif: from `read_exif`.
    """
    with atomic_path(path) as temporary:
        if kind == "jpeg":
            subsampling = 0 if quality >= 90 else 2
            picture = Image.fromarray(_integers(image, 255).astype(np.uint8))
            picture.save(
                temporary, quality=quality, subsampling=subsampling, icc_profile=srgb_profile(), exif=exif
            )
        elif kind == "png":
            temporary.write_bytes(_png(_integers(image, 65535).astype(np.uint16), exif))
        else:
            tags = [(tag, TiffTags.ASCII, 0, str(exif[tag]), True) for tag in sorted(_KEPT & set(exif))]
            tifffile.imwrite(
                temporary,
                _integers(image, 65535).astype(np.uint16),
                photometric="rgb",
                compression="zlib",
                iccprofile=srgb_profile(),
                extratags=tags,
                metadata=None,
                software="attiqa",
            )


def read_exif(path: Path) -> Image.Exif:
    """What a file's EXIF says about the photograph; little more than "upright" where it has none.

    Raws built like TIFF (DNG, NEF, CR2, ARW and most others) are read at their first directory.
    """
    with warnings.catch_warnings():  # Pillow warns of every tag that a maker bent
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file:
                kept = _carried(_source_exif(file))
            kept.tobytes()
        except (OSError, SyntaxError, ValueError, KeyError, TypeError, OverflowError, struct.error):
            return _carried(Image.Exif())
    return kept


def _carried(source: Image.Exif) -> Image.Exif:
    """The entries of `source` that stay true of a new, upright rendering in sRGB."""
    kept = Image.Exif()
    kept.update({tag: source[tag] for tag in _KEPT & set(source)})
    kept[Base.Orientation], kept[Base.Software] = _UPRIGHT, "attiqa"
    details = {tag: value for tag, value in source.get_ifd(IFD.Exif).items() if tag not in _LEFT_EXIF}
    kept.get_ifd(IFD.Exif).update(details | {Base.ColorSpace: _SRGB})
    position = source.get_ifd(IFD.GPSInfo)
    if position:
        kept.get_ifd(IFD.GPSInfo).update(position)
    return kept


def _source_exif(file: BinaryIO) -> Image.Exif:
    head = file.read(4)
    file.seek(0)
    if head in (b"II*\0", b"MM\0*"):
        exif = Image.Exif()
        exif.load_from_fp(file)
        return exif
    return Image.open(file).getexif()


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile that says so."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _integers(image: torch.Tensor, top: int) -> np.ndarray:
    """float32 ``(3, H, W)`` in [0, 1] to whole numbers in [0, top], ``(H, W, 3)``."""
    return (image * top).round_().clamp_(0, top).permute(1, 2, 0).contiguous().cpu().numpy()


def _png(pixels: np.ndarray, exif: Image.Exif) -> bytes:
    """A PNG of 16 bits a channel (PNG specification, third edition), which Pillow cannot write.

    Every row takes the filter Up, which suits photographs of 16 bits and needs no loop over rows.
    """
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, width * 6)
    filtered = np.empty((height, 1 + width * 6), np.uint8)
    filtered[:, 0] = 2  # Up: the difference from the row above, modulo 256
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    profile = b"sRGB\0\0" + zlib.compress(srgb_profile())
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    chunks = [
        (b"IHDR", header),
        (b"iCCP", profile),
        (b"eXIf", tiff),
        (b"IDAT", zlib.compress(filtered.tobytes(), 4)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
