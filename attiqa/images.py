"""Reading photographs from disk as display sRGB.

Whatever the file holds (EXIF orientation, grey, alpha, palette, CMYK, 16 bits a sample), what comes out
is one layout: ``(3, H, W)``, display sRGB. What cannot be brought to it is refused in a sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from attiqa.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

# Pillow holds 16-bit grey in these modes; 16-bit RGB files it reads as 8-bit RGB
_DEEP_GREY = {"I;16", "I;16L", "I;16B", "I;16N", "I"}


def read_image(path: str | Path) -> torch.Tensor:
    """Read an image file.

    Args:
        path: JPEG, PNG, WebP, BMP or TIFF.

    Returns:
        uint8 ``(3, H, W)``, interleaved in memory, display sRGB in [0, 255], EXIF orientation applied, alpha
        composed on black.

    Raises:
        InputError: the file is missing, empty, truncated, or no image that can be brought to this form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected an image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected an image.")
    return decode_image(path, path)


def decode_image(source: Path | IO[bytes], path: str | Path) -> torch.Tensor:
    """As `read_image`, from a file or from bytes in memory; `path` is what error sentences call it."""
    try:
        with Image.open(source) as opened:
            return _to_rgb(ImageOps.exif_transpose(opened), path)
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
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        pixels = np.array(image.convert("RGB"))
    # the decoder's interleaved samples seen as (3, H, W): what channels_last is, without a copy
    return torch.from_numpy(pixels).permute(2, 0, 1)


def to_float(image: torch.Tensor) -> torch.Tensor:
    """uint8 in [0, 255] to float32 in [0, 1]; any shape, display sRGB stays display sRGB."""
    return image.to(torch.float32, copy=True).div_(255.0)


def list_images(inputs: list[Path], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Expand files and folders (recursively, sorted) into a list of image paths.

    A file that is named is taken whatever its suffix, so that its reader can say what is wrong with it.

    Raises:
        InputError: a path does not exist, or nothing at all was found.
    """
    found: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
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
