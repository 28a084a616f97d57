"""Writing Adobe DNG files: Bayer and X-Trans mosaics or demosaicked linear raws, uncompressed.

Tags and their meaning: Digital Negative Specification 1.6. What is left out (crops, profiles) has
defaults there that a reader applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from attiqa.errors import InputError
from attiqa.files import atomic_path

BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
XTRANS_PATTERN = "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"  # Fujifilm's 6 x 6 cell

CFA, LINEAR_RAW = 32803, 34892  # PhotometricInterpretation
_D65 = 21  # CalibrationIlluminant1
_BYTE, _ASCII, _SHORT, _RATIONAL, _UNDEFINED, _SRATIONAL = 1, 2, 3, 5, 7, 10  # TIFF field types
_DENOMINATOR = 1_000_000


def write_dng(
    path: str | Path,
    pixels: np.ndarray,
    as_shot_neutral: Sequence[float],
    color_matrix: np.ndarray,
    black_level: Sequence[int] = (0, 0, 0, 0),
    white_level: int = 65535,
    pattern: str = "RGGB",
    orientation: int = 1,
    camera: str = "ATTIQA unprocessed",
    opcodes: Mapping[int, bytes] | None = None,
) -> None:
    """Write a raw picture as a DNG, atomically.

    Args:
        path: where to; the folder is made.
        pixels: uint16, a mosaic ``(H, W)`` with even sides or a demosaicked linear raw ``(H, W, 3)``.
        as_shot_neutral: what the camera takes for white, camera linear, three values in (0, 1]: one over the
            white-balance gains.
        color_matrix: ``(3, 3)``, XYZ (D65) to unbalanced camera linear, the DNG's ColorMatrix1.
        black_level: one a place of the 2x2 cell, read row by row; X-Trans and linear raws take the first.
        white_level: the value of saturation.
        pattern: colours of the cell, read row by row: one of `BAYER_PATTERNS`, or `XTRANS_PATTERN`. A linear
            raw has none.
        orientation: EXIF orientation, 1 to 8.
        camera: UniqueCameraModel.
        opcodes: opcode lists by their tag, `isp_env.opcodes.OPCODE_LIST_2` or `OPCODE_LIST_3`, as
            `isp_env.opcodes.opcode_list` makes them.

    Raises:
        InputError: an argument is outside the above.
    """
    _check(pixels, as_shot_neutral, pattern, orientation)
    mosaic = pixels.ndim == 2
    tags = [
        (274, _SHORT, 1, orientation),
        (50706, _BYTE, 4, bytes((1, 4, 0, 0))),  # DNGVersion
        (50707, _BYTE, 4, bytes((1, 1, 0, 0))),  # DNGBackwardVersion
        (50708, _ASCII, None, camera),  # UniqueCameraModel
        (50717, _SHORT, 1 if mosaic else 3, white_level if mosaic else (white_level,) * 3),
        (50721, _SRATIONAL, 9, _rationals(np.asarray(color_matrix, dtype=np.float64).ravel())),
        (50728, _RATIONAL, 3, _rationals(as_shot_neutral)),
        (50778, _SHORT, 1, _D65),
    ]
    if mosaic:
        side = 2 if pattern in BAYER_PATTERNS else 6
        blacks = tuple(black_level) if side == 2 else (black_level[0],)
        tags += [
            (33421, _SHORT, 2, (side, side)),  # CFARepeatPatternDim
            (33422, _BYTE, side**2, bytes("RGB".index(color) for color in pattern)),
            (50713, _SHORT, 2, (2, 2) if side == 2 else (1, 1)),  # BlackLevelRepeatDim
            (50714, _SHORT, len(blacks), blacks),
        ]
    else:
        tags += [(50714, _SHORT, 3, (black_level[0],) * 3)]
    tags += [(tag, _UNDEFINED, len(content), content) for tag, content in (opcodes or {}).items()]
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric=CFA if mosaic else LINEAR_RAW,
            planarconfig=None if mosaic else "contig",
            metadata=None,
            software="attiqa",
            extratags=[(*tag, True) for tag in tags],
        )


def _check(pixels: np.ndarray, as_shot_neutral: Sequence[float], pattern: str, orientation: int) -> None:
    linear = pixels.ndim == 3 and pixels.shape[2] == 3
    mosaic = pixels.ndim == 2 and not (pixels.shape[0] % 2 or pixels.shape[1] % 2)
    if pixels.dtype != np.uint16 or not (mosaic or linear):
        raise InputError(
            "a DNG holds uint16 pixels, (H, W) with even sides or (H, W, 3); "
            f"these are {pixels.dtype} of shape {pixels.shape}."
        )
    if len(as_shot_neutral) != 3 or not all(0 < value <= 1 for value in as_shot_neutral):
        raise InputError(f"as_shot_neutral needs three values in (0, 1], not {list(as_shot_neutral)}.")
    if pattern not in (*BAYER_PATTERNS, XTRANS_PATTERN):
        raise InputError(
            f"{pattern!r} is no pattern of a sensor; take one of {', '.join(BAYER_PATTERNS)}, "
            "or isp_env.dng.XTRANS_PATTERN."
        )
    if orientation not in range(1, 9):
        raise InputError(f"orientation {orientation} is none of EXIF's 1 to 8.")


def _rationals(values: Sequence[float] | np.ndarray) -> tuple[Any, ...]:
    """Numerators and denominators in turn, as TIFF stores fractions."""
    return tuple(part for value in values for part in (round(value * _DENOMINATOR), _DENOMINATOR))
