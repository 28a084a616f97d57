"""The in-domain protocol: fitted on some prompts of a set, tested on its others, over random splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

import attiqa
from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.evaluation.agreement import METRICS
from attiqa.files import atomic_path
from attiqa.images import read_image, to_float
from attiqa.scoring import read_ahead
from attiqa.splits import random_splits, write_splits
from benchmarks.agreement import agreement
from benchmarks.records import names_digest
from benchmarks.scorers import identity

Vector = NDArray[np.float64]

# ridge penalties that each split chooses from, by cross-validation over its own training prompts
_PENALTIES = np.logspace(0, 5, 11)


def probe_rows(
    rated: RatedSet, models: Sequence[str], *, device: str, view: str, splits: int, seed: int, folder: Path
) -> list[dict[str, Any]]:
    """Linear probes: a ridge regression from each model's frozen features to the rating.

    Features and splits are kept in `folder`, so that a run that was stopped goes on from them.

    Returns:
        a row for each model, shaped like `agreement`: the median over the splits of each metric, with the
        lowest and the highest split as its interval, each split's own row, and the splits' digest.
    """
    parts = random_splits(rated, splits, validation=0, seed=seed)
    made_by = f"random_splits, 80/20, seed {seed}"
    digest = write_splits(folder / "splits.json", rated, parts, made_by)
    rows = []
    for name in models:
        features = image_features(rated, name, device, view, folder)
        results = []
        readable = np.asarray(np.isfinite(features).all(axis=1))
        for part in tqdm(parts, f"{name} in-domain"):
            train, test = part.train[readable[part.train]], part.test
            predicted = np.full(len(test), np.nan)
            here = readable[test]
            fitted = linear_probe(features[train], rated.mos[train], rated.groups[train])
            predicted[here] = fitted.predict(features[test[here]])
            results.append(agreement(predicted, rated.mos[test], rated.groups[test], repeats=0))
        protocol = f"in-domain, linear probe, {splits} splits"
        rows.append({"scorer": name, "protocol": protocol, "splits_sha256": digest} | median_row(results))
    return rows


def linear_probe(features: Vector, ratings: Vector, groups: NDArray) -> GridSearchCV:
    """Ridge regression on standardised features; the penalty is chosen on the training prompts alone."""
    pipeline = make_pipeline(StandardScaler(), Ridge())
    folds = GroupKFold(min(5, len(set(groups))))
    search = GridSearchCV(pipeline, {"ridge__alpha": _PENALTIES}, cv=folds, scoring="neg_mean_squared_error")
    return search.fit(features, ratings, groups=groups)


def image_features(rated: RatedSet, name: str, device: str, view: str, folder: Path) -> Vector:
    """``(N, D)`` pooled backbone features; NaN for unreadable images; read back from an earlier run."""
    model = attiqa.load(name, device=device)
    pairs = zip(rated.names, rated.paths, strict=True)
    images = names_digest(f"{image}:{path.stat().st_size}" for image, path in pairs)
    path = folder / f"features-{identity(model.digest, view, images)[:16]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    rows: list[Vector | None] = []
    decoded = read_ahead(rated.paths, read_image, workers=2, ahead=4)
    for _, image in tqdm(decoded, f"{name} features", len(rated)):
        unreadable = isinstance(image, InputError)
        rows.append(
            None if unreadable else model.features(to_float(image)[None], view)[0].cpu().double().numpy()
        )
    width = next((len(row) for row in rows if row is not None), 1)
    features = np.stack([np.full(width, np.nan) if row is None else row for row in rows])
    with atomic_path(path) as temporary:
        np.save(temporary, features)
    return features


def median_row(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    metrics = {}
    for name in METRICS:
        values = [result["metrics"][name]["value"] for result in results]
        known = [value for value in values if value is not None]
        ends = (min(known), max(known)) if known else None
        metrics[name] = {"value": float(np.median(known)) if known else None, "interval": ends}
    notes = [result["note"] for result in results if result["note"]]
    return {
        "items": int(np.median([result["items"] for result in results])),
        "dropped": sum(result["dropped"] for result in results),
        "note": f"{len(notes)} of {len(results)} splits: {notes[0]}" if notes else None,
        "metrics": metrics,
        "splits": list(results),
    }
