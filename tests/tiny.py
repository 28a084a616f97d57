"""A tiny randomly initialised quality model, for tests of what goes around a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from attiqa.attributes import read_attributes
from attiqa.checkpoint import save_checkpoint
from attiqa.model import QualityModel, load
from attiqa.nn.network import AttributeNetwork, build_network


def tiny_network(seed: int = 0) -> AttributeNetwork:
    """ShuffleNet at half width with five narrow heads; a few milliseconds an image."""
    torch.manual_seed(seed)
    return build_network("shufflenet_v2_x0_5", hidden=8, regressor_hidden=8).eval()


def tiny_card() -> dict[str, Any]:
    """The least that a card must say."""
    return {"name": "tiny", "attributes": list(read_attributes().names)}


def tiny_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write the tiny network as a checkpoint; returns the weights file."""
    path = folder / "tiny.safetensors"
    save_checkpoint(path, tiny_network(seed), tiny_card())
    return path


def tiny_model(folder: Path, seed: int = 0) -> QualityModel:
    """The tiny network through the same `load` as any model."""
    return load(tiny_checkpoint(folder, seed))
