"""Frozen calibration: raw scores to z-scores or percentiles of a reference set, kept on the model's card.

Rewards of different models then share one scale, and one number keeps its meaning across runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from attiqa.checkpoint import card_path, read_card
from attiqa.errors import InputError
from attiqa.files import write_json
from attiqa.model import QualityModel

KINDS = ("z-score", "percentile")
_QUANTILES = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Calibration:
    """Maps raw numbers to a frozen scale.

    Attributes:
        kind: ``z-score`` or ``percentile``.
        columns: by name (``score`` or an attribute): mean and standard deviation, or 101 quantiles.
        source: what the reference scores were made on, for people.
        count: how many there were.
    """

    kind: str
    columns: dict[str, tuple[float, ...]]
    source: str
    count: int

    def __call__(self, values: torch.Tensor, column: str = "score") -> torch.Tensor:
        """Calibrate values of any shape: to z-scores, or to percentiles in [0, 1] with the ends held.

        Raises:
            InputError: the calibration has no such column.
        """
        if column not in self.columns:
            raise InputError(f"the calibration has no column {column!r}; it has {', '.join(self.columns)}.")
        table = torch.tensor(self.columns[column], dtype=values.dtype, device=values.device)
        if self.kind == "z-score":
            return (values - table[0]) / table[1]
        upper = torch.searchsorted(table, values.contiguous()).clamp(1, len(table) - 1)
        low, high = table[upper - 1], table[upper]
        between = ((values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)).clamp(0, 1)
        return (upper - 1 + between) / (len(table) - 1)


def fit_calibration(scores: Mapping[str, ArrayLike], kind: str = "z-score", source: str = "") -> Calibration:
    """Fit on reference scores, one ``(N,)`` array a column.

    Raises:
        InputError: unknown kind, fewer than two scores, or scores that are constant or not finite.
    """
    if kind not in KINDS:
        raise InputError(f"there is no calibration {kind!r}; choose one of {', '.join(KINDS)}.")
    columns: dict[str, tuple[float, ...]] = {}
    count = 0
    for name, values in scores.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all() or np.ptp(array) == 0:
            raise InputError(
                f"a calibration needs two or more different, finite values; {name} has none such."
            )
        count = array.size
        table = np.quantile(array, _QUANTILES) if kind == "percentile" else [array.mean(), array.std()]
        columns[name] = tuple(float(value) for value in table)
    return Calibration(kind, columns, source, count)


def store_calibration(weights: str | Path, calibration: Calibration) -> None:
    """Write the calibration onto the card beside `weights`; the weights and their digest stay."""
    card = read_card(weights)
    card["calibration"] = {
        "kind": calibration.kind,
        "columns": {name: list(table) for name, table in calibration.columns.items()},
        "source": calibration.source,
        "count": calibration.count,
    }
    write_json(card_path(weights), card)


def calibration_of(model: QualityModel) -> Calibration:
    """The calibration on a model's card; raises `InputError` where there is none."""
    stored: dict[str, Any] | None = model.card.get("calibration")
    if not stored:
        raise InputError("the model's card has no calibration; fit one with `fit_calibration` and store it.")
    columns = {name: tuple(table) for name, table in stored["columns"].items()}
    return Calibration(stored["kind"], columns, stored["source"], stored["count"])


class CalibratedReward:
    """A model's score, or one of its attributes, on a frozen scale; a plain `Reward`."""

    def __init__(
        self, model: QualityModel, calibration: Calibration | None = None, column: str = "score"
    ) -> None:
        self.model = model
        self.calibration = calibration or calibration_of(model)
        self.column = column
        names = ("score", *model.attribute_names)
        if column not in names or column not in self.calibration.columns:
            raise InputError(f"there is no calibrated column {column!r}; choose one of {', '.join(names)}.")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Calibrated ``(B,)`` of float32 ``(B, 3, H, W)`` display sRGB."""
        return self.vector(images)[self.column]

    def vector(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every calibrated column, ``(B,)`` each, from one forward pass."""
        score, attributes = self.model.assess(images)
        raw = {"score": score} | dict(zip(self.model.attribute_names, attributes.unbind(dim=1), strict=True))
        return {name: self.calibration(raw[name], name) for name in self.calibration.columns if name in raw}
