"""Reduced photographs in one file, mapped into memory: sets that are larger than memory can be trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json, write_json

PIXELS, INDEX = "pixels.u8", "pixels.json"


def stored_pixels(
    folder: Path,
    paths: Sequence[Path],
    side: int,
    decoded: Callable[[], Iterable[torch.Tensor | InputError]],
) -> list[torch.Tensor | InputError]:
    """Each image of `paths` from `folder`, where a run that was stopped left them, or else decoded into it.

    Args:
        folder: where the two files are, or go.
        paths: image files; where one of them has another size or date than before, all are decoded again.
        side: what else the pixels depend on.
        decoded: called if they must be decoded: uint8 images ``(3, H, W)``, or what is wrong, in order.

    Returns:
        Images that read their pixels when they are looked at, or what was wrong with a file, in order.
    """
    made_of = _digest(paths, side)
    rows = _index(folder, made_of)
    if rows is None:
        rows = []
        with atomic_path(folder / PIXELS) as temporary, open(temporary, "wb") as file:
            for image in decoded():
                if isinstance(image, InputError):
                    rows.append(str(image))
                else:
                    rows.append([int(image.shape[1]), int(image.shape[2])])
                    file.write(image.contiguous().numpy().data)
        write_json(folder / INDEX, {"made_of": made_of, "images": rows})
    return _mapped(folder / PIXELS, rows)


def discard_pixels(folder: Path) -> None:
    """Take both files away; images that are in use keep their pixels until they are let go."""
    for name in (INDEX, PIXELS):
        (folder / name).unlink(missing_ok=True)


def _mapped(path: Path, rows: Sequence[Any]) -> list[torch.Tensor | InputError]:
    # copy-on-write: tensors want memory that they may write to, and nothing reaches the file
    pixels = np.memmap(path, np.uint8, mode="c") if path.stat().st_size else np.zeros(0, np.uint8)
    images: list[torch.Tensor | InputError] = []
    start = 0
    for row in rows:
        if isinstance(row, str):
            images.append(InputError(row))
            continue
        height, width = row
        end = start + 3 * height * width
        images.append(torch.from_numpy(pixels[start:end]).view(3, height, width))
        start = end
    return images


def _index(folder: Path, made_of: str) -> list[Any] | None:
    """What the index says of each image; None where there is none, or one of other images."""
    try:
        index = read_json(folder / INDEX)
        rows, size = index["images"], (folder / PIXELS).stat().st_size
        whole = size == sum(3 * row[0] * row[1] for row in rows if not isinstance(row, str))
        return rows if whole and index["made_of"] == made_of else None
    except (InputError, OSError, KeyError, TypeError, IndexError):
        return None


def _digest(paths: Sequence[Path], side: int) -> str:
    """SHA-256 of names, sizes and dates."""
    known = hashlib.sha256(str(side).encode())
    for path in paths:
        try:
            about = path.stat()
            known.update(f"\n{path.absolute()} {about.st_size} {about.st_mtime_ns}".encode(errors="replace"))
        except OSError:
            known.update(f"\n{path.absolute()}".encode(errors="replace"))
    return known.hexdigest()
