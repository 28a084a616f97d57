"""Preference pairs: the project's own layout, ImageReward's and Pick-a-Pic's files, pairs from rated sets.

Our layout is a folder with ``pairs.csv`` (columns prompt, image_a, image_b, votes_a, votes_b and, if there
were any, ties) and the images, named relative to the folder.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attiqa.datasets.tables import read_csv
from attiqa.errors import InputError
from attiqa.evaluation.comparison import rated_pairs
from attiqa.files import atomic_path, read_json

COLUMNS = ("prompt", "image_a", "image_b", "votes_a", "votes_b")


@dataclass(frozen=True)
class Pair:
    """Two images of one prompt, and how many people preferred each.

    Votes may be fractions: a Pick-a-Pic label is a share. Two rated images count one vote for the higher,
    and `gap` is the difference of their ratings.
    """

    prompt: str
    image_a: str
    image_b: str
    votes_a: float
    votes_b: float
    ties: float = 0.0
    gap: float | None = None

    @property
    def decided(self) -> bool:
        """Whether people preferred one of the two."""
        return self.votes_a != self.votes_b

    @property
    def strength(self) -> float:
        """Agreement: the gap in rating, or the winner's lead as a share of all votes (1 if unanimous)."""
        if self.gap is not None:
            return self.gap
        return abs(self.votes_a - self.votes_b) / (self.votes_a + self.votes_b + self.ties)


def read_pairs(path: Path, layout: str) -> list[Pair]:
    """Read preference pairs in one of `LAYOUTS`; raises `InputError` in a sentence for what does not fit."""
    if layout not in LAYOUTS:
        raise InputError(f"pairs come in the layouts {', '.join(LAYOUTS)}; {layout!r} is none of them.")
    pairs = LAYOUTS[layout](path)
    if not pairs:
        raise InputError(f"{path} holds no pair.")
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write ``pairs.csv`` in the project's layout."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "ties"])
        for pair in pairs:
            votes = [f"{count:g}" for count in (pair.votes_a, pair.votes_b, pair.ties)]
            writer.writerow([pair.prompt, pair.image_a, pair.image_b, *votes])


def pairs_from_ratings(
    names: Sequence[str], prompts: Sequence[str], ratings: Sequence[float], least_gap: float
) -> list[Pair]:
    """All pairs of one prompt whose ratings differ by at least `least_gap`, one vote for the higher.

    A gap of zero keeps equal ratings too, as ties.
    """
    if least_gap < 0:
        raise InputError(f"a rating gap is zero or more; it is {least_gap}.")
    pairs = []
    for a, b in _within_prompts(prompts, ratings, least_gap):
        lead = float(ratings[a] - ratings[b])
        votes = (float(lead > 0), float(lead < 0), float(lead == 0))
        pairs.append(Pair(prompts[a], names[a], names[b], *votes, gap=abs(lead)))
    if not pairs:
        raise InputError(
            f"no two of {len(names)} images share a prompt and differ by {least_gap:g} in rating; "
            "lower --gap or take a set with several images a prompt."
        )
    return pairs


def _within_prompts(
    prompts: Sequence[str], ratings: Sequence[float], least_gap: float
) -> list[tuple[int, int]]:
    """Pairs of rows in the order of the table; with a gap of zero also those that are rated alike."""
    rows = rated_pairs(ratings, prompts, least_gap)
    if least_gap == 0:
        every = rated_pairs(np.arange(len(ratings)), prompts)  # row numbers never tie
        values = np.asarray(ratings)
        rows = np.concatenate([rows, every[values[every[:, 0]] == values[every[:, 1]]]])
    return sorted((int(row.min()), int(row.max())) for row in rows)


def _read_own(path: Path) -> list[Pair]:
    rows = _csv_rows(path / "pairs.csv" if path.is_dir() else path, COLUMNS)
    pairs = [_pair(row, COLUMNS, f"{path} row {number}", row.get("ties")) for number, row in rows]
    seen: set[frozenset[str]] = set()
    for pair in pairs:
        both = frozenset((pair.image_a, pair.image_b))
        if both in seen:
            raise InputError(
                f"{path} lists the pair {pair.image_a}, {pair.image_b} more than once; "
                "add its votes up in one row."
            )
        seen.add(both)
    return pairs


_PICK_COLUMNS = ("caption", "image_0_uid", "image_1_uid", "label_0", "label_1")


def _read_pickapic(path: Path) -> list[Pair]:
    """Pick-a-Pic's columns (yuvalkirstain/pickapic_v1, v2) as CSV or JSON lines; images are ``UID.jpg``.

    Rows without a label are left out; labels of one half each are a tie.
    """
    if path.suffix == ".csv":
        rows = _csv_rows(path, _PICK_COLUMNS)
    elif path.suffix in (".jsonl", ".json"):
        rows = _json_lines(path)
    else:
        raise InputError(
            f"{path} is no Pick-a-Pic table as .csv or .jsonl; write the parquet's columns "
            f"{', '.join(_PICK_COLUMNS)} to one, and its images (jpg_0, jpg_1) as UID.jpg beside it."
        )
    pairs = []
    for number, row in rows:
        if str(row.get("has_label", True)).lower() == "false":
            continue
        pair = _pair(row, _PICK_COLUMNS, f"{path} row {number}", None)
        tie = float(pair.votes_a == pair.votes_b)
        images = (f"{pair.image_a}.jpg", f"{pair.image_b}.jpg")
        pairs.append(Pair(pair.prompt, *images, pair.votes_a * (1 - tie), pair.votes_b * (1 - tie), tie))
    return pairs


def _read_imagereward(path: Path) -> list[Pair]:
    """ImageReward's ``test.json`` (Xu et al., NeurIPS 2023): a list of prompts with ranked generations.

    Rank 1 is best; equal ranks are a tie. Each two generations of a prompt make one pair with one vote.
    """
    pairs = []
    for number, entry in enumerate(read_json(path, "ImageReward's list of rankings")):
        try:
            prompt, images, ranks = entry["prompt"], entry["generations"], entry["ranking"]
        except (KeyError, TypeError):
            raise InputError(f"{path} entry {number} lacks prompt, generations or ranking.") from None
        if len(images) != len(ranks):
            raise InputError(f"{path} entry {number} has {len(images)} generations but {len(ranks)} ranks.")
        for a, b in itertools.combinations(range(len(images)), 2):
            votes = (float(ranks[a] < ranks[b]), float(ranks[a] > ranks[b]), float(ranks[a] == ranks[b]))
            pairs.append(Pair(prompt, images[a], images[b], *votes))
    return pairs


LAYOUTS = {"pairs": _read_own, "imagereward": _read_imagereward, "pickapic": _read_pickapic}


def _csv_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
    """Numbered rows of a CSV file that must have `columns`; the first below the header is 1."""
    table = read_csv(path, columns)
    return [
        (number, dict(zip(table, row, strict=True)))
        for number, row in enumerate(zip(*table.values(), strict=True), start=1)
    ]


def _json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected JSON lines.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number} is not JSON ({error}).") from None
    return rows


def _pair(row: dict[str, Any], columns: Sequence[str], where: str, ties: Any) -> Pair:
    prompt, image_a, image_b, votes_a, votes_b = (row.get(column) for column in columns)
    if not image_a or not image_b:
        raise InputError(f"{where} lacks {columns[1]} or {columns[2]}.")
    if image_a == image_b:
        raise InputError(f"{where} compares {image_a} with itself.")
    try:
        counts = [float(votes_a), float(votes_b), float(ties or 0)]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{where} has votes {votes_a!r} and {votes_b!r}; expected numbers.") from None
    if not all(0 <= count < float("inf") for count in counts) or sum(counts) == 0:
        raise InputError(f"{where} has votes {counts}; expected numbers of zero or more, not all zero.")
    return Pair(str(prompt or ""), str(image_a), str(image_b), *counts)
