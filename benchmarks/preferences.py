"""Preference accuracy: how often a scorer prefers the image of a pair that people preferred."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.errors import InputError
from attiqa.metrics import bootstrap_interval
from benchmarks.pairs import Pair
from benchmarks.scorers import ScoreColumn
from benchmarks.significance import paired_test, sign_test

Vector = NDArray[np.float64]

# shares of the votes by which the preferred image leads; the last band is unanimity. Our choice
VOTE_EDGES = (0.0, 0.34, 0.67, 0.999, 1.0)


def outcomes(pairs: Sequence[Pair], scores: Mapping[str, float]) -> Vector:
    """1 where the scorer prefers what people preferred, 0 where the other, 0.5 where it sees a tie.

    Args:
        pairs: ``N`` pairs.
        scores: image -> score, higher is better.

    Returns:
        float64 ``(N,)``; NaN where people tied or an image has no score.
    """
    result = np.full(len(pairs), np.nan)
    for index, pair in enumerate(pairs):
        gap = scores.get(pair.image_a, np.nan) - scores.get(pair.image_b, np.nan)
        if pair.decided and np.isfinite(gap):
            result[index] = 0.5 * (1 + np.sign(gap) * np.sign(pair.votes_a - pair.votes_b))
    return result


def accuracy_row(pairs: Sequence[Pair], result: Vector, *, repeats: int, seed: int) -> dict[str, Any]:
    """Accuracy of one scorer with its interval, sign test and counts.

    A scorer's own tie counts one half in the accuracy and not at all in the sign test. The interval is a
    bootstrap over prompts, for pairs of one prompt share images; over pairs where there is one prompt only,
    which the row then says in `note`.
    """
    counted = np.isfinite(result)
    decided = np.array([pair.decided for pair in pairs])
    right, wrong, tied = (int((result == value).sum()) for value in (1.0, 0.0, 0.5))
    row: dict[str, Any] = {
        "accuracy": None,
        "interval": None,
        "p_value": sign_test(right, wrong),
        "right": right,
        "wrong": wrong,
        "scorer_ties": tied,
        "human_ties": int((~decided).sum()),
        "unscored": int((decided & ~counted).sum()),
        "note": None,
    }
    if not counted.any():
        return row | {"note": "no decided pair has two scored images"}
    prompts = np.array([pair.prompt for pair in pairs])[counted]
    one_prompt = len(set(prompts)) == 1
    try:
        row["interval"] = bootstrap_interval(
            lambda values: float(np.mean(values)),
            result[counted],
            clusters=None if one_prompt else prompts,
            repeats=repeats,
            seed=seed,
        )
    except InputError as error:
        row["note"] = str(error)
    if one_prompt:
        row["note"] = "one prompt only: the interval is over pairs"
    return row | {"accuracy": float(result[counted].mean())}


def strength_edges(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Where bands of agreement begin and end: fixed shares of votes, or quarters of the gaps in rating."""
    gaps = [pair.gap for pair in pairs if pair.gap is not None and pair.decided]
    if not gaps:
        return VOTE_EDGES
    quarters = np.quantile(gaps, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf")  # no band is empty
    return (0.0, *np.unique(quarters).tolist())


def by_strength(pairs: Sequence[Pair], result: Vector) -> list[dict[str, Any]]:
    """Accuracy and number of pairs in each band (above, up to and including) of `strength_edges`."""
    strength = np.array([pair.strength for pair in pairs])
    rows = []
    for low, high in itertools.pairwise(strength_edges(pairs)):
        chosen = np.isfinite(result) & (strength > low) & (strength <= high)
        mean = float(result[chosen].mean()) if chosen.any() else None
        rows.append({"above": low, "up_to": high, "pairs": int(chosen.sum()), "accuracy": mean})
    return rows


def compare_scorers(columns: Sequence[ScoreColumn], results: Sequence[Vector]) -> list[dict[str, Any]]:
    """McNemar's exact test for each two scorers, on the pairs that both could score."""
    rows = []
    for (first, one), (second, other) in itertools.combinations(zip(columns, results, strict=True), 2):
        both = np.isfinite(one) & np.isfinite(other)
        better, worse, p_value = paired_test(one[both], other[both])
        rows.append(
            {"first": first.name, "second": second.name, "pairs": int(both.sum()), "first_better": better}
            | {"second_better": worse, "p_value": p_value}
        )
    return rows
