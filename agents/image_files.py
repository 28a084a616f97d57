"""Writing finished pictures: JPEG, 16-bit PNG, 16-bit TIFF; sRGB profile inside, EXIF carried over."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import Image, ImageCms, TiffTags
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from agents.exif import DESCRIPTION
from attiqa.files import atomic_path

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# directories of a TIFF file, and free tags that hold their places in the sorted list until they are written
_DIRECTORIES = {IFD.Exif: 34664, IFD.GPSInfo: 34800}
_ROWS_AT_ONCE = 64


def finish(image: torch.Tensor, kind: str) -> Pixels:
    """Display sRGB to the whole numbers that a file of `kind` (a key of `SUFFIXES`) holds.

    Args:
        image: float32 ``(3, H, W)`` in [0, 1].

    Returns:
        ``(H, W, 3)``, uint8 for a JPEG and uint16 for the others.
    """
    levels, dtype = (255, torch.uint8) if kind == "jpeg" else (65535, torch.uint16)
    pixels = torch.empty(*image.shape[1:], 3, dtype=dtype)
    for top in range(0, len(pixels), _ROWS_AT_ONCE):  # a few rows stay in the cache
        rows = slice(top, top + _ROWS_AT_ONCE)
        whole = image[:, rows].mul(levels).add_(0.5).clamp_(0, levels).to(dtype)  # rounds to nearest
        pixels[rows] = whole.permute(1, 2, 0)
    return pixels.numpy()


def write_picture(path: Path, pixels: Pixels, kind: str, quality: int, exif: Image.Exif) -> None:
    """Write a picture atomically.

    Args:
        path: the file.
        pixels: from `finish`, display sRGB.
        kind: ``jpeg`` (8 bits), ``png`` or ``tiff`` (16 bits a channel).
        quality: of a JPEG, 1 to 100; from 90 on its colour is not subsampled.
        exif: from `agents.exif.read_exif`.
    """
    with atomic_path(path) as temporary:
        if kind == "jpeg":
            subsampling = 0 if quality >= 90 else 2
            Image.fromarray(pixels).save(
                temporary, quality=quality, subsampling=subsampling, icc_profile=srgb_profile(), exif=exif
            )
        elif kind == "png":
            with temporary.open("wb") as file:
                _write_png(file, pixels, exif)
        else:
            _write_tiff(temporary, pixels, exif)


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile that says so; not of now, so that a picture written twice is one file."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]  # ICC.1:2022, 7.2.8


def _write_png(file: BinaryIO, pixels: Pixels, exif: Image.Exif) -> None:
    """A PNG of 16 bits a channel (PNG specification, third edition), which Pillow cannot write.

    Every row takes the filter Up, which suits photographs of 16 bits and needs no loop over rows.
    """
    height, width, _ = pixels.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)))
    file.write(_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile())))
    file.write(_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    packer = zlib.compressobj(4)
    above = np.zeros(width * 6, np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        rows = pixels[top : top + _ROWS_AT_ONCE].astype(">u2").view(np.uint8).reshape(-1, width * 6)
        filtered = np.empty((len(rows), 1 + width * 6), np.uint8)
        filtered[:, 0] = 2  # Up: the difference from the row above, modulo 256
        np.subtract(rows, np.vstack([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1]
        if packed := packer.compress(filtered.tobytes()):
            file.write(_chunk(b"IDAT", packed))
    file.write(_chunk(b"IDAT", packer.flush()))
    file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_tiff(path: Path, pixels: Pixels, exif: Image.Exif) -> None:
    tags: list[tuple[int, int, int, Any, bool]] = [
        (tag, TiffTags.ASCII, 0, exif[tag], True) for tag in sorted(DESCRIPTION & set(exif))
    ]
    details = {place: exif.get_ifd(kind) for kind, place in _DIRECTORIES.items()}
    tags += [(place, TiffTags.LONG, 1, 0, True) for place, entries in details.items() if entries]
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        compression="zlib",
        predictor=2,
        iccprofile=srgb_profile(),
        extratags=tags,
        metadata=None,
        software=str(exif[Base.Software]),
    )
    _append_directories(path, exif)


def _append_directories(path: Path, exif: Image.Exif) -> None:
    """Add the directories of EXIF and GPS, which tifffile does not write, behind a TIFF's pixels."""
    with tifffile.TiffFile(path) as tiff:
        order, tags = tiff.byteorder, tiff.pages.first.tags
        entries = {kind: tags[place].offset for kind, place in _DIRECTORIES.items() if place in tags}
    with path.open("r+b") as file:
        for kind, entry in entries.items():
            start = file.seek(0, 2)
            start += file.write(b"\0" * (start % 2))  # a directory begins at an even byte
            directory = ImageFileDirectory_v2(ifh=b"II*\0\0\0\0\0" if order == "<" else b"MM\0*\0\0\0\0")
            directory.update(exif.get_ifd(kind))
            file.write(directory.tobytes(start))
            file.seek(entry)
            file.write(struct.pack(order + "HHII", kind, TiffTags.LONG, 1, start))
