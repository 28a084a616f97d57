"""Camera raw files to camera-linear frames, through LibRaw.

LibRaw unpacks, subtracts black, scales to the sensor's saturation and demosaics; the balance that it
needs for a good demosaic is divided out again, so that a `RawFrame` stays unbalanced. What LibRaw's own
render does with the rest is what our neutral render reproduces (peak signal-to-noise of 50 dB and more):

* white level: where the brightest pixel of a file lies between 75 % and 100 % of the nominal white level,
  LibRaw takes it for the saturation (its ``adjust_maximum_thr``), and so do we;
* no as-shot balance (the Canon D30 writes -1): LibRaw falls back to its automatic, grey-world balance;
* no colour matrix in the file or in what LibRaw reports (the Kodak DC50): LibRaw may still hold one in
  its tables; we measure it by rendering the file with and without.

One thing we do that LibRaw does not: what a DNG says of its lens is applied (`isp_env.lens`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import rawpy
import torch
from torch import Tensor

from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import read_image, to_float
from isp_env.color import (
    D65_XY,
    SRGB_PRIMARIES,
    linear_to_srgb,
    rgb_to_xyz_matrix,
    srgb_to_linear,
)
from isp_env.demosaic import bayer_pattern, read_mosaic, register_half
from isp_env.frame import RawFrame
from isp_env.lens import Sensor, corrected
from isp_env.opcodes import read_opcodes
from isp_env.saturation import saturation

Demosaic = Literal["half", "bilinear", "linear", "vng", "ppg", "ahd", "dcb", "dht", "aahd"]
Highlights = Literal["keep", "clip", "blend", "reconstruct"]
Balance = Literal["as_shot", "daylight", "auto"]


class DecodeOptions(TypedDict, total=False):
    """The keyword arguments of `read_raw` that say how a file is decoded."""

    demosaic: Demosaic | None
    highlights: Highlights
    balance: Balance
    correct_lens: bool


_FORMATS = (
    "3fr ari arw bay cap cr2 cr3 crw dcr dcs dng drf eip erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw "
    "orf pef ptx r3d raf raw rw2 rwl rwz sr2 srf srw x3f"
)
RAW_SUFFIXES = frozenset(f".{name}" for name in _FORMATS.split())

_HIGHLIGHT_MODES = {
    # all but `Clip` scale the largest gain to 1, so that nothing is lost before it is divided out again
    "keep": rawpy.HighlightMode.Ignore,
    "clip": rawpy.HighlightMode.Clip,
    "blend": rawpy.HighlightMode.Blend,
    "reconstruct": rawpy.HighlightMode.ReconstructDefault,
}
_LINEAR_OUTPUT: dict[str, Any] = {"gamma": (1, 1), "no_auto_bright": True, "output_bps": 16}
_SRGB_CURVE = (2.4, 12.92)  # LibRaw's way to name the IEC 61966-2-1 curve


def read_raw(
    path: str | Path,
    short_side: int | None = None,
    demosaic: Demosaic | None = None,
    highlights: Highlights = "keep",
    balance: Balance = "as_shot",
    correct_lens: bool = True,
    device: torch.device | str = "cpu",
) -> RawFrame:
    """Read a camera raw: Bayer, X-Trans, Foveon or linear DNG.

    Args:
        path: the raw file.
        short_side: pixels that the short side is area-averaged down to, in linear light; a smaller raw
            keeps its size. None keeps every pixel. With ``highlights="keep"`` what the as-shot balance takes
            beyond white is averaged as white, unless all of a pixel is: so the neutral render of the small
            image is the small image of the neutral render.
        demosaic: ``"half"`` makes one pixel of each 2x2 cell of a Bayer sensor, several times faster and
            alias-free; ``"bilinear"`` is kornia's, on `device`, for Bayer sensors; the others are LibRaw's,
            at full size. None: ``"half"``, with its colours brought to one centre, where a Bayer sensor has 8
            pixels or more for one of `short_side`; else ``"ppg"``. Files without a mosaic are not
            demosaicked.
        highlights: what becomes of pixels in which some channels are saturated. ``"keep"`` leaves every
            channel as the sensor saw it, at most 1.0, so that another balance than the as-shot one can use
            it. ``"clip"`` cuts each channel where the as-shot balance takes it to white, before the demosaic,
            as LibRaw's render does: cleaner edges around blown highlights, but a wrong as-shot balance has
            then lost them. ``"blend"`` and ``"reconstruct"`` let LibRaw estimate the saturated channels from
            the others; they then exceed 1.0.
        balance: the frame's white balance: the camera's own for the shot, its daylight balance, or LibRaw's
            automatic, grey-world one.
        correct_lens: whether what a DNG says of its lens's shading and distortion is applied, to the
            demosaicked image; see `isp_env.lens`. What gains take beyond saturation counts as saturated.
            LibRaw's own render does without.
        device: where the frame is to be; LibRaw works on the CPU.

    Returns:
        The frame, upright, its size ``(H, W)`` that of the upright picture.

    Raises:
        InputError: the file is missing, empty, truncated or no raw that LibRaw can decode.
    """
    with _opened(path) as raw:
        notes: list[str] = []
        # before anything is rendered: half_size overwrites what LibRaw says of the mosaic
        register = demosaic is None and _half_will_do(raw, short_side)
        sensor, saturated = _sensor(raw), saturation(raw)
        demosaic = _chosen(raw, short_side, demosaic, highlights)
        mosaic = read_mosaic(raw, saturated) if demosaic == "bilinear" else None
        gains = _balance(raw, balance, notes)
        white = saturated.white_for(gains)
        if raw.num_colors != 3:
            notes.append(
                f"the sensor has {raw.num_colors} colours; LibRaw itself balanced and converted them"
            )
            pixels = raw.postprocess(use_camera_wb=True, **_options(demosaic), **_LINEAR_OUTPUT)
            image, gains, matrix = _planes(pixels), np.ones(4), np.eye(3)
        elif mosaic is not None:
            whole = 1.0 if white is None else (white - saturated.black) / (saturated.white - saturated.black)
            limited = mosaic.limited(torch.from_numpy(gains).float(), whole, clip=highlights == "clip")
            image = limited.demosaicked(device)
            matrix = _color_matrix(raw, notes)
        else:
            image = _camera_linear(raw, gains, highlights, _options(demosaic) | {"user_sat": white})
            matrix = _color_matrix(raw, notes)
    if register and sensor.pattern is not None:
        image = register_half(image, sensor.pattern, sensor.flip)
    white_balance = torch.from_numpy(gains[:3]).float()
    white_point = 1.0 / white_balance.to(image.device)
    if correct_lens:
        saturates = {"keep": torch.ones_like(white_point), "clip": white_point}.get(highlights)
        image = _lens_corrected(image, path, sensor, saturates, notes)
    if highlights == "keep":
        image = _shrink_below_white(image, short_side, white_point)
    else:
        image = shrink(image, short_side)
    return RawFrame(
        image=image.to(device),
        white_balance=white_balance.to(device),
        color_matrix=torch.from_numpy(matrix).float().to(device),
        name=Path(path).stem,
        digest=file_digest(path),
        notes=tuple(notes),
    )


def _sensor(raw: rawpy.RawPy) -> Sensor:
    """How the pixels lie in an opened raw of which nothing has been rendered yet."""
    sizes = raw.sizes
    return Sensor(sizes.height, sizes.width, sizes.flip, bayer_pattern(raw), raw.raw_pattern is not None)


def _lens_corrected(
    image: Tensor, path: str | Path, sensor: Sensor, saturates: Tensor | None, notes: list[str]
) -> Tensor:
    """The image as the file's opcodes mend it, at most `saturates` ``(3,)``; None sets no limit."""
    opcodes, left_out = read_opcodes(path)
    notes.extend(left_out)
    if not opcodes:
        return image
    image = corrected(image, opcodes, sensor).clamp_(min=0.0)
    return image if saturates is None else torch.minimum(image, saturates[:, None, None], out=image)


def read_libraw_auto(path: str | Path, short_side: int | None = None) -> Tensor:
    """LibRaw's automatic render: camera balance (grey-world where there is none), automatic brightness.

    Returns:
        float32 ``(3, H, W)``, display sRGB, as large as the image of `read_raw` with the same arguments.

    Raises:
        InputError: as `read_raw`.
    """
    with _opened(path) as raw:
        options = _options(_chosen(raw, short_side, None, "keep"))
        pixels = raw.postprocess(use_camera_wb=True, gamma=_SRGB_CURVE, output_bps=16, **options)
    return linear_to_srgb(shrink(srgb_to_linear(_planes(pixels)), short_side))


def check_raw(path: str | Path) -> None:
    """Open and unpack a raw without demosaicking it; raises `InputError` as `read_raw` would."""
    with _opened(path) as raw:
        raw.unpack()


def read_photograph_as_frame(path: str | Path, short_side: int | None = None) -> RawFrame:
    """An ordinary photograph as a frame whose neutral render is the photograph itself.

    Display sRGB is linearised; balance and matrix are the identity. Arguments and errors as `read_raw`.
    """
    image = shrink(srgb_to_linear(to_float(read_image(path))), short_side)
    return RawFrame(image, torch.ones(3), torch.eye(3), Path(path).stem, file_digest(path))


def shrink(image: Tensor, short_side: int | None) -> Tensor:
    """Area-average a linear image ``(3, H, W)`` down to `short_side`; never up; None leaves it as it is."""
    height, width = image.shape[-2:]
    if short_side is None or min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    size = (round(height * scale), round(width * scale))
    return torch.nn.functional.interpolate(image[None], size=size, mode="area")[0]


def _shrink_below_white(image: Tensor, short_side: int | None, white: Tensor) -> Tensor:
    """As `shrink`, but what exceeds `white` ``(3,)`` counts only where all that is averaged does.

    Clipping does not commute with averaging: a pixel in which a light is half covered would turn white.
    """
    if short_side is None or min(image.shape[-2:]) <= short_side:
        return image
    limit = white[:, None, None]
    clipped = shrink(torch.minimum(image, limit), short_side)
    return torch.where(clipped < limit * (1.0 - 1e-4), clipped, shrink(image, short_side))


@contextmanager
def _opened(path: str | Path) -> Iterator[rawpy.RawPy]:
    """The unpacked raw; whatever LibRaw refuses, now or in the block, becomes an `InputError`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a camera raw such as a DNG, NEF or CR2.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected a camera raw.")
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except rawpy.LibRawFileUnsupportedError:
        raise InputError(f"{path} is no raw file that LibRaw {_libraw_version()} can read.") from None
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InputError(f"{path} cannot be decoded ({reason}): it is no raw, or not all of one.") from None


def _libraw_version() -> str:
    return ".".join(map(str, rawpy.libraw_version))


def _half_will_do(raw: rawpy.RawPy, short_side: int | None) -> bool:
    """Whether a half-size image still has four pixels for one along each side, on a Bayer sensor.

    With less, what a demosaic reconstructs within a cell still shows: a preview of the Nikon D1 is 37 dB from
    its full render with 2.6 pixels for one, and 69 dB when it is demosaicked in full.
    """
    if short_side is None or bayer_pattern(raw) is None:
        return False
    return min(raw.sizes.height, raw.sizes.width) // 2 >= 4 * short_side


def _chosen(
    raw: rawpy.RawPy, short_side: int | None, demosaic: Demosaic | None, highlights: Highlights
) -> Demosaic:
    """The demosaic, None being resolved by the size that is asked for."""
    if demosaic is None:
        return "half" if _half_will_do(raw, short_side) else "ppg"
    if demosaic not in get_args(Demosaic):
        raise InputError(f"demosaic {demosaic!r} is unknown; take one of {', '.join(get_args(Demosaic))}.")
    if demosaic == "bilinear" and highlights not in ("keep", "clip"):
        raise InputError(
            f"highlights={highlights!r} is LibRaw's work: take another demosaic than 'bilinear', "
            "or highlights 'keep' or 'clip'."
        )
    return demosaic


def _options(demosaic: Demosaic) -> dict[str, Any]:
    """LibRaw's arguments for one of its demosaics."""
    if demosaic == "half":
        return {"half_size": True}
    return {"demosaic_algorithm": rawpy.DemosaicAlgorithm[demosaic.upper()]}


def _balance(raw: rawpy.RawPy, kind: Balance, notes: list[str]) -> np.ndarray:
    """Gains for red, green, blue and the second green, float64 ``(4,)``; the smallest of the three is 1."""
    if kind not in get_args(Balance):
        raise InputError(f"balance {kind!r} is unknown; take one of {', '.join(get_args(Balance))}.")
    if kind == "as_shot":
        return _as_shot_balance(raw, notes)
    gains = _auto_balance(raw) if kind == "auto" else _gains(raw.daylight_whitebalance)
    if not _is_balance(gains):
        raise InputError(f"the file gives no {kind} balance; take balance='as_shot'.")
    return gains / gains[:3].min()


def _auto_balance(raw: rawpy.RawPy) -> np.ndarray:
    raw.postprocess(use_auto_wb=True, half_size=True, **_LINEAR_OUTPUT)
    return _gains(raw.auto_whitebalance)


def _as_shot_balance(raw: rawpy.RawPy, notes: list[str]) -> np.ndarray:
    balance = _gains(raw.camera_whitebalance)
    if not _is_balance(balance):
        balance = _auto_balance(raw)
        notes.append("the file has no as-shot white balance; LibRaw's automatic (grey-world) one is used")
    if not _is_balance(balance):
        balance = _gains(raw.daylight_whitebalance)
        notes[-1] = "the file has no as-shot white balance; the camera's daylight balance is used"
    if not _is_balance(balance):
        balance = np.ones(4)
        notes[-1] = "the file has no white balance at all; equal gains are used"
    return balance / balance[:3].min()


def _gains(values: list[float] | None) -> np.ndarray:
    """LibRaw's four gains as float64 ``(4,)``; it writes 0 for a second green that is like the first."""
    gains = np.array(values or [0.0] * 4, dtype=np.float64)
    gains[3] = gains[3] or gains[1]
    return gains


def _is_balance(gains: np.ndarray) -> bool:
    return bool(np.isfinite(gains).all() and (gains > 0).all())


def _camera_linear(
    raw: rawpy.RawPy, balance: np.ndarray, highlights: Highlights, options: dict[str, Any]
) -> Tensor:
    """Demosaicked camera linear ``(3, H, W)``.

    Interpolation across colours (PPG, AHD, DHT) expects balanced values: on unbalanced ones the GoPro's
    render is 15 dB further from LibRaw's own. So LibRaw balances, and the gains are divided out here.
    """
    pixels = raw.postprocess(
        user_wb=balance.tolist(),
        highlight_mode=_HIGHLIGHT_MODES[highlights],
        output_color=rawpy.ColorSpace.raw,
        **options,
        **_LINEAR_OUTPUT,
    )
    white = 1.0 if highlights == "clip" else balance.max()
    gains = torch.tensor(white / balance[:3], dtype=torch.float32)
    image = _planes(pixels).mul_(gains[:, None, None])
    if highlights in ("blend", "reconstruct"):
        return image
    return image.clamp_(max=1.0)  # the overshoot of the interpolation


def _planes(pixels: np.ndarray) -> Tensor:
    """LibRaw's uint16 ``(H, W, C)`` to float32 ``(3, H, W)`` in [0, 1]; grey is repeated."""
    planes = (
        torch.from_numpy(pixels).permute(2, 0, 1)[:3].to(torch.float32, memory_format=torch.contiguous_format)
    )
    return planes.div_(65535.0).expand(3, -1, -1).contiguous()


def _color_matrix(raw: rawpy.RawPy, notes: list[str]) -> np.ndarray:
    """White-balanced camera linear to linear sRGB, float64 ``(3, 3)``, rows of sum 1."""
    matrix = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    if matrix.any():
        return matrix / matrix.sum(axis=1, keepdims=True)
    xyz_to_camera = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3]
    if xyz_to_camera.any():
        camera = xyz_to_camera @ rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY).numpy()
        return np.linalg.inv(camera / camera.sum(axis=1, keepdims=True))
    notes.append("the file has no colour matrix; the one that LibRaw applies to it was measured")
    return _measured_matrix(raw)


def _measured_matrix(raw: rawpy.RawPy) -> np.ndarray:
    """The matrix between LibRaw's render in camera colours and in linear sRGB, by least squares."""
    spaces = (rawpy.ColorSpace.raw, rawpy.ColorSpace.sRGB)
    camera, linear_srgb = (
        raw.postprocess(half_size=True, output_color=space, **_LINEAR_OUTPUT).reshape(-1, 3) / 65535.0
        for space in spaces
    )
    unclipped = ((camera < 0.99) & (linear_srgb > 0.01) & (linear_srgb < 0.99)).all(axis=1)
    if np.linalg.matrix_rank(camera[unclipped]) < 3:
        return np.eye(3)  # too dark or too grey to tell: the colours stay the camera's
    matrix = np.linalg.lstsq(camera[unclipped], linear_srgb[unclipped], rcond=None)[0].T
    return matrix / matrix.sum(axis=1, keepdims=True)
