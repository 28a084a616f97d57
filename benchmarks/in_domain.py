"""The in-domain protocol: fitted on some prompts of a set, tested on its others, over random splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attiqa.datasets.rated import RatedSet
from attiqa.evaluation.agreement import METRICS
from attiqa.progress import progress_bar
from attiqa.splits import random_splits, write_splits
from benchmarks.agreement import agreement
from benchmarks.fits import Fit


def in_domain_row(
    rated: RatedSet, model: str, fit: Fit, *, splits: int, seed: int, folder: Path
) -> dict[str, Any]:
    """A model fitted and tested on every split, whole prompts on one side; the splits go into `folder`.

    Returns:
        a row shaped like `agreement`: the median over the splits of each metric, with the lowest and the
        highest split as its interval, each split's own row, and the splits' digest.
    """
    parts = random_splits(rated, splits, validation=0, seed=seed)
    made_by = f"random_splits by {rated.grouping}, 80/20, seed {seed}"
    digest = write_splits(folder / "splits.json", rated, parts, made_by)
    results = []
    for part in progress_bar(parts, f"{model}, {fit.label}", unit="split"):
        predicted = fit.predict(model, rated, part.train, rated, part.test)
        result = agreement(predicted.values, rated.mos[part.test], rated.groups[part.test], repeats=0)
        results.append(result | {"train_images": predicted.fitted_on})
    protocol = f"in-domain, {fit.label}, {splits} splits"
    facts = {"scorer": model, "protocol": protocol, "fit": dict(fit.describe()), "splits_sha256": digest}
    return facts | median_row(results)


def median_row(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median of each metric over splits, between the lowest and the highest, and the splits themselves.

    A single split keeps its own interval.
    """
    metrics = {}
    for name in METRICS:
        values = [result["metrics"][name]["value"] for result in results]
        known = [value for value in values if value is not None]
        ends = (min(known), max(known)) if known else None
        if len(results) == 1:
            ends = results[0]["metrics"][name]["interval"]
        metrics[name] = {"value": float(np.median(known)) if known else None, "interval": ends}
    notes = [result["note"] for result in results if result["note"]]
    return {
        "items": int(np.median([result["items"] for result in results])),
        "dropped": sum(result["dropped"] for result in results),
        "note": f"{len(notes)} of {len(results)} splits: {notes[0]}" if notes else None,
        "metrics": metrics,
        "splits": list(results),
    }
