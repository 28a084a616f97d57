"""Slopes at the neutral renders of a run's raws, kept in its folder: measuring them is minutes of work."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from agents.runs import versions
from attiqa.files import NAME_ERRORS, atomic_path
from isp_env.envs.core import Core

_SLOPES = "slopes"


def bring_slopes(path: Path, core: Core) -> None:
    """Let `core` know the slopes at all of its neutral renders: from `path`, or measured and then kept there.

    What `path` holds counts where these versions measured it of the same frames, parameters and reward: where
    the neutral renders score the same to the last bit. All else, and what cannot be read, is measured anew.
    """
    potentials = core.neutral["potential"].cpu().numpy()
    of = {
        "versions": json.dumps(versions()),
        "parameters": ",".join(core.space.names),
        "frames": hashlib.sha256("\n".join(core.names).encode(errors=NAME_ERRORS)).hexdigest(),
        "potentials": hashlib.sha256(potentials.tobytes()).hexdigest(),
    }
    kept = _read(path, of)
    if kept is not None:
        core.know_neutral_slopes(kept)
        return
    measured = core.neutral_slope_of(np.arange(len(core)))
    with atomic_path(path) as temporary:
        save_file({_SLOPES: measured.cpu().contiguous()}, temporary, of)


def _read(path: Path, of: dict[str, str]) -> torch.Tensor | None:
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(_SLOPES) if file.metadata() == of else None
    except (SafetensorError, OSError):
        return None
