"""What the recipes of bundled models share: which photographs are held out, and how a model is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from attiqa.checkpoint import save_checkpoint
from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import load_dataset
from attiqa.images import list_images
from attiqa.model import load
from attiqa.nn.network import AttributeNetwork
from attiqa.rewards.calibration import store_calibration
from attiqa.training.card import held_out_calibration, view_of

HELD_OUT_EVERY = 12  # each twelfth photograph is kept for validation and calibration


def divided_photographs(data: Path) -> tuple[list[Path], list[Path]]:
    """Training and held-out photographs of ``photos/imagenet_sample``."""
    photographs = list_images([data / "photos" / "imagenet_sample"])
    held_out = photographs[::HELD_OUT_EVERY]
    return [path for path in photographs if path not in held_out], held_out


def rated_sets(data: Path, names: Iterable[str]) -> dict[str, RatedSet]:
    """The human ratings below ``human/``, by dataset."""
    return {name: load_dataset(name, data / "human" / name.replace("-", "_")) for name in names}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of `packages`, for the card."""
    return {"python": sys.version.split()[0]} | {name: metadata.version(name) for name in packages}


def write_model(
    path: Path, network: AttributeNetwork, card: dict[str, Any], held_out: Sequence[Path]
) -> None:
    """Write weights in float16 with their card, calibrate on the held-out photographs, and say so."""
    written = save_checkpoint(path, network, card, dtype=torch.float16)
    store_calibration(path, held_out_calibration(load(path), [view_of(image) for image in held_out]))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, digest {written['digest'][:12]}")
