"""A training run on disk: weights, optimiser moments and progress, so that a killed run goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from attiqa.errors import InputError
from attiqa.files import atomic_path
from attiqa.nn.backbones import read_safetensors

_MODEL, _MOMENTS, _PROGRESS = "model.", "optimizer.", "progress"


def save_state(path: str | Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write network and optimiser after `step` steps to one safetensors file, whole or not at all."""
    tensors = {_MODEL + key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {
            f"{_MOMENTS}{index}.{key}": value.detach().cpu().contiguous() for key, value in moments.items()
        }
    tensors[_PROGRESS] = torch.tensor(step)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_state(path: str | Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a saved run back into `network` and `optimizer`; returns how many steps it had made.

    Raises:
        InputError: the file is incomplete or belongs to another network.
    """
    tensors = read_safetensors(Path(path))
    weights = {key.removeprefix(_MODEL): value for key, value in tensors.items() if key.startswith(_MODEL)}
    own = network.state_dict()
    if _PROGRESS not in tensors or {k: v.shape for k, v in weights.items()} != {
        k: v.shape for k, v in own.items()
    }:
        raise InputError(
            f"{path} is not a state of this training run; remove it, or give the run its options."
        )
    network.load_state_dict(weights)
    moments: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith(_MOMENTS):
            index, name = key.removeprefix(_MOMENTS).split(".")
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(tensors[_PROGRESS])
