"""Take back what brightens in a policy's parameters, as far as a render would clip what the camera keeps, and
what would tint a picture in black and white.

NumPy alone: ``agents/export_policy.py`` puts a copy of this file beside a portable policy, for whoever runs
it without the package. The numbers of the rule stand in its ``manifest.json`` under ``draw_back``; exports
of this package follow the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

LEVEL = 1 / 255 + 1e-6  # of 8 bits, and the slack of a float
AREAS = 32  # along the short side of a picture


def draw_back(
    values: np.ndarray, manifest: Mapping[str, Any], render: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, float]:
    """Parameters near those of a policy with which hardly a pixel is clipped anew, and grey stays grey.

    Args:
        values: ``(P,)``, what the policy says of one picture, in physical units.
        manifest: the content of ``manifest.json``.
        render: parameters ``(P,)`` to the picture ``(3, H, W)``, display sRGB in [0, 1], rendered small: as
            large as what the policy saw.

    Returns:
        The parameters to render with, and the share of what brightens that was taken: 1 for all of it. Where
        nothing helps these are the neutral ones, and 0.
    """
    rule, rows = manifest["draw_back"], manifest["parameters"]
    neutral = np.array([row["neutral"] for row in rows], np.float64)
    values = np.asarray(values, np.float64)
    brightens = np.array([row["name"] in rule["brightening"] for row in rows]) & (values > neutral)
    before = render(neutral)
    if is_colorless(before, rule["colorless"]):
        values = np.where([row["name"] in rule["tinting"] for row in rows], neutral, values)
    for share in rule["shares"]:
        tried = np.where(brightens, neutral + share * (values - neutral), values)
        if newly_clipped(render(tried), before) <= rule["most_newly_clipped"]:
            return tried, float(share)
    return neutral, 0.0


def is_colorless(picture: np.ndarray, most: float) -> bool:
    """Whether a picture ``(3, H, W)`` is in black and white: the channels' means over any of its areas are at
    most `most` apart.
    """
    side = max(1, min(picture.shape[1:]) // AREAS)
    rows, columns = (length // side for length in picture.shape[1:])
    squares = picture[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side)
    means = squares.mean(axis=(2, 4), dtype=np.float64)
    return bool((means.max(axis=0) - means.min(axis=0)).max() <= most)


def newly_clipped(picture: np.ndarray, before: np.ndarray) -> float:
    """The share of pixels of which a channel is clipped, or all are black, in one picture ``(3, H, W)`` and
    not in the other.
    """
    black, was_black = (each.max(axis=0) <= LEVEL for each in (picture, before))
    burnt = ((picture >= 1 - LEVEL) & (before < 1 - LEVEL)).any(axis=0)
    return float((burnt | (black & ~was_black)).mean())
