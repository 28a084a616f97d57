"""Slopes at the neutral renders of a run's raws, kept in its folder: measuring them is minutes of work."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from agents.runs import versions
from isp_env.cache import PreviewCache
from isp_env.envs.core import Core

_SLOPES = "slopes"


def bring_slopes(folder: Path, core: Core, apart: bool = False) -> None:
    """Let `core` know the slopes at all of its neutral renders: from `folder`, or measured and kept there.

    Those of each part of the reward where they are wanted `apart`, else of their mean.

    What `folder` holds counts where these versions measured it of the same frames, parameters and reward:
    where the neutral renders score the same to the last bit. All else, and what cannot be read, is measured
    anew.
    """
    cache = PreviewCache(folder)
    potentials = core.neutral["potential"].cpu().numpy()
    key = cache.key(
        hashlib.sha256(potentials.tobytes()).hexdigest(),
        versions=json.dumps(versions()),
        parameters=",".join(core.space.names),
        parts=str(core.part_count if apart else 1),
        frames="\n".join(core.names),
    )
    entry = cache.load(key)
    if entry is not None:
        core.know_neutral_slopes(entry[0][_SLOPES])
    else:
        slopes_of = core.neutral_slopes_of if apart else core.neutral_slope_of
        cache.store(key, {_SLOPES: slopes_of(np.arange(len(core)))}, {})
