"""Scorers: images in, one number each out, with a name, a digest, a direction and an origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import attiqa
from attiqa.peers import Scorer, identity, one_line

__all__ = ["ScoreColumn", "Scorer", "identity", "model_scorer", "one_line"]


@dataclass(frozen=True)
class ScoreColumn:
    """One scorer's values for a list of images, computed here or published by others.

    Attributes:
        values: float64 ``(N,)`` in the scorer's own units; NaN where there is none.
        failures: (item, sentence) for each NaN whose reason is known.
        kind: "measured" here, or "published" by others.
        card: of a quality model, as in `Scorer`.
    """

    name: str
    digest: str
    origin: str
    lower_is_better: bool
    values: NDArray[np.float64]
    failures: list[tuple[str, str]] = field(default_factory=list)
    kind: str = "measured"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def oriented(self) -> NDArray[np.float64]:
        """The values, turned round where lower is better: here higher is always better."""
        return -self.values if self.lower_is_better else self.values

    def describe(self) -> dict[str, object]:
        """What a record keeps of the scorer."""
        return {
            "name": self.name,
            "kind": self.kind,
            "origin": self.origin,
            "digest": self.digest,
            "lower_is_better": self.lower_is_better,
            "scored": int(np.isfinite(self.values).sum()),
            "failures": [{"item": item, "reason": reason} for item, reason in self.failures],
        }


def model_scorer(name: str, device: str = "cpu", view: str = "whole") -> Scorer:
    """A quality model of this repository (bundled name, local file or hub id) in one of `attiqa.views`."""
    model = attiqa.load(name, device=device)
    return Scorer(
        name=Path(name).stem if Path(name).exists() else name,
        digest=identity(model.digest, view),
        origin=f"this repository's model {name}, view {view}, weights {model.digest[:12]}",
        lower_is_better=False,
        value_range="stated on its card",
        score=lambda images: model.score(images, view),
        card=model.card,
    )
