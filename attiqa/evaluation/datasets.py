"""One model on one rated set: scores of every image, then agreement, splits, and what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.evaluation.agreement import agreement, over_splits
from attiqa.model import QualityModel
from attiqa.progress import progress_bar
from attiqa.score_table import ScoreTable, score_protocol
from attiqa.scoring import score_files
from attiqa.splits import Split, official_split, random_splits

SPLIT_WORDS = ("auto", "official", "random", "none")


@dataclass(frozen=True)
class Scored:
    """A rated set without its unreadable images, the scores of the others, a sentence on each unreadable."""

    rated: RatedSet
    scores: NDArray[np.float64]
    unreadable: tuple[str, ...]


def score_rated_set(
    model: QualityModel,
    rated: RatedSet,
    table_path: Path,
    *,
    crops: str,
    batch: int = 32,
    workers: int | None = None,
) -> Scored:
    """Score every image of `rated`, through a table on disk that a killed run resumes from."""
    errors: dict[str, str] = {}
    with ScoreTable(table_path, score_protocol(model, crops), model.attribute_names) as table:
        remaining = [path for path in rated.paths if str(path) not in table.done]
        results = score_files(model, remaining, crops=crops, batch=batch, workers=workers)
        for result in progress_bar(results, f"scoring {rated.name}", total=len(remaining), unit="image"):
            table.add([result])
            if result.error:
                errors[str(result.path)] = result.error
        scores = np.array([table.done.get(str(path), np.nan) for path in rated.paths])
    readable = np.isfinite(scores)
    if readable.sum() < 2:
        raise InputError(
            f"{int(readable.sum())} of {len(rated)} images of {rated.name} could be scored; "
            f"the first sentence was: {next(iter(errors.values()), 'none')}"
        )
    return Scored(rated.select(readable), scores[readable], tuple(errors.values()))


def choose_splits(rated: RatedSet, which: str, *, count: int = 10, seed: int = 0) -> tuple[list[Split], str]:
    """Splits and what made them: ``official``, ``random``, ``none``, or ``auto`` (official, else random).

    Raises:
        InputError: another word, no official split, or too few images for splits.
    """
    if which not in SPLIT_WORDS:
        raise InputError(
            f"there are no splits {which!r}; give {', '.join(SPLIT_WORDS)}, or a file of splits."
        )
    if which == "none":
        return [], "none"
    if which == "official" or (which == "auto" and rated.splits is not None):
        return [official_split(rated)], "official"
    made_by = f"random by {rated.grouping}, {count} of 80/20, seed {seed}"
    return random_splits(rated, count, seed=seed), made_by


def evaluate_scored(
    scored: Scored, splits: Sequence[Split], *, repeats: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The record of one model on one set: JSON values.

    Whole references or prompts are resampled where the set has them. The numbers are those of a model that
    learnt from none of these splits.
    """
    rated = scored.rated
    grouped = rated.grouping != "image"
    return {
        "dataset": rated.name,
        "images": len(rated),
        "missing": list(rated.missing),
        "unreadable": list(scored.unreadable),
        "notes": list(rated.notes),
        "grouping": rated.grouping,
        "intervals": f"95 % percentile bootstrap over {rated.grouping}s, {repeats} draws, seed {seed}",
        "overall": agreement(
            scored.scores, rated.mos, clusters=rated.groups if grouped else None, repeats=repeats, seed=seed
        ),
        "splits": over_splits(scored.scores, rated.mos, splits) if splits else None,
    }
