"""Reading photographs from disk as display sRGB.

Whatever the file holds (EXIF orientation, grey, alpha, palette, CMYK, 16 bits a sample, an embedded ICC
profile), what comes out is one layout: ``(3, H, W)``, display sRGB. What cannot be brought to it is refused
in a sentence.
"""

from __future__ import annotations

import functools
import io
import logging
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from attiqa.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

# Pillow holds 16-bit grey in these modes; 16-bit RGB files it reads as 8-bit RGB
_DEEP_GREY = {"I;16", "I;16L", "I;16B", "I;16N", "I"}

# the modes that a profile of a colour space (ICC.1, table 19) describes, and what they become
_PROFILED = {"RGB": {"RGB": "RGB", "RGBA": "RGBA"}, "GRAY": {"L": "RGB"}, "CMYK": {"CMYK": "RGB"}}
# short sides are brought to hundreds of pixels: a line of pixels would become billions
_LONGEST = 64  # times the short side; our choice

_SAME = 2  # 8-bit levels; a profile that moves no colour further is sRGB under another maker's name


def read_image(path: str | Path, profiles: bool = True) -> torch.Tensor:
    """Read an image file.

    Args:
        path: JPEG, PNG, WebP, BMP or TIFF.
        profiles: whether colours of an embedded ICC profile are converted to sRGB; otherwise the numbers are
            taken for sRGB as they stand.

    Returns:
        uint8 ``(3, H, W)``, interleaved in memory, display sRGB in [0, 255], EXIF orientation applied, alpha
        composed on black. The intent of a conversion is relative colorimetric, with black point compensation
        (our choice). Grey of 16 bits is not converted, and with a profile that cannot be used the numbers are
        taken for sRGB, which a warning says.

    Raises:
        InputError: the file is missing, empty, truncated, or no image that can be brought to this form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected an image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected an image.")
    return decode_image(path, path, profiles)


def decode_image(source: Path | IO[bytes], path: str | Path, profiles: bool = True) -> torch.Tensor:
    """As `read_image`, from a file or from bytes in memory; `path` is what error sentences call it."""
    try:
        with Image.open(source) as opened:
            width, height = opened.size
            if max(width, height) > _LONGEST * min(width, height):
                raise InputError(
                    f"{path} is {width} x {height} pixels; expected a photograph, whose long side is at most "
                    f"{_LONGEST} times its short one: cut it into parts."
                )
            ImageOps.exif_transpose(opened, in_place=True)  # without a copy where it is upright
            if not profiles:
                opened.info.pop("icc_profile", None)
            return _to_rgb(opened, path)
    except InputError:  # a ValueError itself, and a sentence already
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read; convert it to PNG or JPEG.") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be decoded ({error}); is the file complete?") from None


def _to_rgb(image: Image.Image, path: str | Path) -> torch.Tensor:
    if image.mode in _DEEP_GREY:
        grey = np.asarray(image, dtype=np.float32) / 257.0
        pixels = np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    elif image.mode == "F":
        raise InputError(
            f"{path} holds floating-point samples of unknown range; save it as 8- or 16-bit sRGB."
        )
    else:
        if "A" in image.getbands() or "transparency" in image.info:
            image = _to_srgb(image.convert("RGBA"), path)
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        else:
            image = _to_srgb(image, path)
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))  # converting copies
    # the decoder's interleaved samples seen as (3, H, W): what channels_last is, without a copy
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_srgb(image: Image.Image, path: str | Path) -> Image.Image:
    """The image with the colours that its profile, if it has one, gives it in sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        space = _space(profile)
        if space == "RGB" and image.mode not in ("RGBA", "CMYK"):
            image = image.convert("RGB")
        transform = _transform(profile, space, image.mode)
        return image if transform is None else ImageCms.applyTransform(image, transform) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logging.getLogger(__name__).warning(
            "%s: its colour profile cannot be used (%s), so its colours are taken for sRGB.", path, error
        )
        return image


@functools.lru_cache(maxsize=32)
def _space(profile: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, space: str, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From `profile`, of the colour space `space`, to sRGB for images of `mode`; None where both agree."""
    after = _PROFILED.get(space, {}).get(mode)
    if after is None:
        raise ValueError(f"it describes {space}, and the image is {mode}")
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        after,
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if space != "RGB":
        return transform
    levels = np.linspace(0, 255, 6).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3)
    probe = Image.fromarray(cube).convert(mode)
    shown = ImageCms.applyTransform(probe, transform) or probe
    moved = np.array(shown.convert("RGB")).astype(int) - cube
    return None if np.abs(moved).max() <= _SAME else transform


def to_float(image: torch.Tensor) -> torch.Tensor:
    """uint8 in [0, 255] to float32 in [0, 1]; any shape, display sRGB stays display sRGB."""
    return image.to(torch.float32, copy=True).div_(255.0)


def list_images(inputs: list[Path], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Expand files and folders (recursively, sorted) into a list of image paths.

    A file that is named is taken whatever its suffix, so that its reader can say what is wrong with it. What
    is hidden in a folder is left out: macOS puts a ``._NAME`` of its own beside each picture on a camera's
    card, and what a killed process was writing is hidden too.

    Raises:
        InputError: a path does not exist, or nothing at all was found.
    """
    found: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            found += [p for p in below if not any(part[0] == "." for part in p.relative_to(path).parts)]
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist; give a file or a folder of images.")
    if not found:
        names = ", ".join(str(p) for p in inputs)
        raise InputError(
            f"no image was found in {names}; expected files ending in {', '.join(sorted(suffixes))}."
        )
    return found
