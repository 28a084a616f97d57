"""Photographs for the CLIP test instrument: which ones it learns from, and tiles of those it never sees."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image

from attiqa.attributes import read_attributes
from attiqa.distortions import distort
from attiqa.images import read_image, to_float
from attiqa.views import short_side
from isp_env.embedded import embedded_photographs

SIDE = 64  # of what the instrument sees, pixels
HELD_OUT = ("chelsea", "coffee", "flower")
STRONGEST = 0.8  # of the levels that are mixed: beyond it five distortions at once leave no photograph


def training_photographs() -> list[Path]:
    """The embedded scenes that are not held out."""
    return [path for name, path in embedded_photographs().items() if name not in HELD_OUT]


def held_out_tiles(rows: int) -> torch.Tensor:
    """Tiles of the photographs that are held out.

    Args:
        rows: tiles along the short side of each photograph, which is shrunk to ``64 * rows`` pixels.

    Returns:
        float32 ``(3 * rows * rows, 3, 64, 64)``, display sRGB in [0, 1].
    """
    tiles = []
    for name in HELD_OUT:
        image = short_side(to_float(read_image(embedded_photographs()[name]))[None], SIDE * rows)[0]
        places = [(SIDE * y, SIDE * x) for y in range(rows) for x in range(rows)]
        tiles += [image[:, y : y + SIDE, x : x + SIDE] for y, x in places]
    return torch.stack(tiles)


def save_tiles(tiles: torch.Tensor, folder: Path) -> list[Path]:
    """Write tiles as PNG files, 8 bits; returns them in order."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(tiles))]
    for path, tile in zip(paths, (tiles * 255).round().byte().permute(0, 2, 3, 1).numpy(), strict=True):
        Image.fromarray(tile).save(path)
    return paths


def save_rated(folder: Path, copies: int, seed: int = 1) -> Path:
    """Held-out tiles with all attributes distorted at once, and ``scores.csv``: the level of each.

    The known intensities stand in for people: a real run of proxy 2 takes the opinions of SPAQ.

    Returns:
        ``folder/scores.csv``, with the images in ``folder/rated``.
    """
    generator = torch.Generator().manual_seed(seed)
    tiles = held_out_tiles(rows=4).repeat(copies, 1, 1, 1)
    names = read_attributes().names
    levels = {name: -STRONGEST * torch.rand(len(tiles), generator=generator) for name in names}
    paths = save_tiles(distort(tiles, levels, generator), folder / "rated")
    table = folder / "scores.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *names])
        for row, path in enumerate(paths):
            writer.writerow([path.name, *(float(levels[name][row]) for name in names)])
    return table
