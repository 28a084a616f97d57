"""Peers' weights from their own files, without running what such a file may hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attiqa.errors import InputError
from attiqa.nn.backbones import read_safetensors
from benchmarks.scorers import one_line

SUFFIXES = (".safetensors", ".pth", ".pt")


def read_tensors(path: Path) -> Mapping[str, Any]:
    """A state dict, or a dict of them; only tensors are unpickled, so no code of the file runs.

    Raises:
        InputError: the file is torn, or holds something else.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a broken file makes it stumble over
        raise InputError(f"{path} is not a file of tensors ({one_line(error)}).") from None
    if not isinstance(held, Mapping):
        raise InputError(f"{path} holds {type(held).__name__}; expected tensors by name.")
    return held
