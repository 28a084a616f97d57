"""The CLIP test instrument as a folder that open_clip reads, and photographs that it never saw.

`tests/make_clip_instrument.py` makes it, `tests/test_clip_instrument.py` uses it. It is no quality model.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from attiqa.attributes import read_attributes
from attiqa.distortions import distort
from attiqa.files import write_json
from attiqa.images import read_image, to_float
from attiqa.views import short_side
from isp_env.embedded import embedded_photographs

ASSET = Path(__file__).parent / "assets" / "clip_instrument"
VOCABULARY = 49408  # of open_clip's own tokenizer
WINDOW = 64  # what the instrument sees, pixels
SIDE = 2 * WINDOW  # of the images: `--crops five` cuts five windows out of each
SHORT_SIDES = (128, 192)  # photographs are shrunk to between these before they are cut
STRONGEST = 0.8  # of the levels that are mixed: beyond it five distortions at once leave no photograph


def read_card() -> dict[str, Any]:
    """What the instrument is, and which adjectives its captions used: ``words``, by attribute and side."""
    card: dict[str, Any] = json.loads((ASSET / "card.json").read_text(encoding="utf-8"))
    return card


def write_clip_instrument(folder: Path, asset: Path = ASSET) -> Path:
    """Write the instrument as an ordinary open_clip folder; returns `folder`.

    The asset keeps the token rows that captions used. Here they take their places in the table of
    open_clip's tokenizer; the rows of all other tokens are zero.
    """
    folder.mkdir(parents=True)
    state = load_file(asset / "weights.safetensors")
    rows, ids = state["token_embedding.weight"], state.pop("token_ids")
    state["token_embedding.weight"] = rows.new_zeros(VOCABULARY, rows.shape[1]).index_copy(
        0, ids.long(), rows
    )
    save_file(state, folder / "open_clip_model.safetensors")
    config = json.loads((asset / "config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["text_cfg"]["vocab_size"] = VOCABULARY
    write_json(folder / "open_clip_config.json", config)
    return folder


def random_cut(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random square, ``(3, 128, 128)``, of a photograph ``(3, H, W)`` whose short side is 128 at least."""
    y, x = (int(torch.randint(size - SIDE + 1, (), generator=generator)) for size in image.shape[1:])
    return image[:, y : y + SIDE, x : x + SIDE]


def held_out_images(copies: int, generator: torch.Generator) -> torch.Tensor:
    """Random cuts of the photographs that installed packages carry, each at another scale.

    Returns:
        float32 ``(scenes * copies, 3, 128, 128)``, display sRGB in [0, 1].
    """
    least, most = SHORT_SIDES
    cuts = []
    for path in embedded_photographs().values():
        photograph = to_float(read_image(path))[None]
        for side in torch.randint(least, most + 1, (copies,), generator=generator).tolist():
            cuts.append(random_cut(short_side(photograph, side)[0], generator))
    return torch.stack(cuts)


def save_images(images: torch.Tensor, folder: Path) -> list[Path]:
    """Write images as PNG files, 8 bits; returns them in order."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(images))]
    for path, image in zip(paths, (images * 255).round().byte().permute(0, 2, 3, 1).numpy(), strict=True):
        Image.fromarray(image).save(path, compress_level=1)
    return paths


def save_rated(folder: Path, copies: int, seed: int = 1) -> Path:
    """Held-out images with all attributes distorted at once, and the level of each as its score.

    The known intensities stand in for people: a real run of proxy 2 takes the opinions of SPAQ.

    Returns:
        ``folder/scores.csv``, with the images in ``folder/rated``.
    """
    generator = torch.Generator().manual_seed(seed)
    images = held_out_images(copies, generator)
    names = read_attributes().names
    levels = {name: -STRONGEST * torch.rand(len(images), generator=generator) for name in names}
    paths = save_images(distort(images, levels, generator), folder / "rated")
    table = folder / "scores.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *names])
        for row, path in enumerate(paths):
            writer.writerow([path.name, *(float(levels[name][row]) for name in names)])
    return table
