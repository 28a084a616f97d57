"""Splits of a rated set into train, validation and test: seeded, by group, in files that prove themselves.

Images of one group (a reference, a prompt) are never on two sides. Splits are stored by image name with a
SHA-256 digest over their content, so that two results can be known to rest on the same split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.datasets.rated import SPLIT_NAMES, RatedSet
from attiqa.errors import InputError
from attiqa.files import read_json, write_json


@dataclass(frozen=True)
class Split:
    """Row numbers of one split; the three sides share no row and no group."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def random_splits(
    rated: RatedSet, count: int = 10, *, test: float = 0.2, validation: float = 0.1, seed: int = 0
) -> list[Split]:
    """`count` random splits by group; the paper's protocol is ten of 80/20 (arXiv 2406.01020, 4.1).

    Args:
        rated: its `groups` stay whole.
        count: number of splits; the first k of a larger count are the same k.
        test: fraction of the groups that is tested.
        validation: fraction of all groups that is taken from the training side for choices, our choice; 0
            leaves it empty.
        seed: equal seeds give equal splits.

    Raises:
        InputError: fractions out of range, or too few groups for three sides.
    """
    if not (0 < test < 1 and 0 <= validation < 1 - test) or count < 1:
        raise InputError(
            "splits need a count of 1 or more and fractions with test > 0 and test + validation < 1; "
            f"these are {count}, test {test} and validation {validation}."
        )
    groups, codes = np.unique(rated.groups, return_inverse=True)
    tested = max(1, round(test * len(groups)))
    chosen = max(1, round(validation * len(groups))) if validation else 0
    if len(groups) <= tested + chosen:
        raise InputError(
            f"{rated.name} has {len(groups)} groups (by {rated.grouping}), too few for these splits; "
            "use a smaller validation fraction or more data."
        )
    splits = []
    for random in np.random.default_rng(seed).spawn(count):
        side = np.zeros(len(groups), dtype=np.int64)
        order = random.permutation(len(groups))
        side[order[:tested]] = 2
        side[order[tested : tested + chosen]] = 1
        splits.append(Split(*(np.flatnonzero(side[codes] == number) for number in range(3))))
    return splits


def official_split(rated: RatedSet) -> Split:
    """The split that the dataset's owners publish; raises `InputError` where there is none."""
    if rated.splits is None:
        raise InputError(f"{rated.name} comes without an official split; use random splits.")
    split = Split(*(np.flatnonzero(rated.splits == side) for side in SPLIT_NAMES))
    if not split.test.size:
        raise InputError(
            f"the official split of {rated.name} has no test images among the {len(rated)} found."
        )
    return split


def subset_of_training(rated: RatedSet, split: Split, fraction: float, seed: int = 0) -> Split:
    """The split with only `fraction` of its training groups (Table 4: 0.1 and 0.2); the test side stays."""
    if not 0 < fraction <= 1:
        raise InputError(f"a training fraction lies above 0 and at most at 1; it is {fraction}.")
    groups = np.unique(rated.groups[split.train])
    kept = np.random.default_rng(seed).permutation(groups)[: max(1, round(fraction * len(groups)))]
    return Split(split.train[np.isin(rated.groups[split.train], kept)], split.validation, split.test)


def write_splits(path: str | Path, rated: RatedSet, splits: Sequence[Split], made_by: str) -> str:
    """Write splits by image name; returns their SHA-256 digest, which stands in the file too."""
    content = {
        "dataset": rated.name,
        "grouping": rated.grouping,
        "made_by": made_by,
        "splits": [
            {side: rated.names[getattr(split, side)].tolist() for side in SPLIT_NAMES} for split in splits
        ],
    }
    digest = splits_digest(content)
    write_json(path, {**content, "sha256": digest})
    return digest


def read_splits(path: str | Path, rated: RatedSet) -> tuple[list[Split], str]:
    """Read splits for `rated`; returns them and their digest.

    Raises:
        InputError: no such file, another dataset's, changed since it was written, or it names images that
            `rated` lacks (then results would not be comparable).
    """
    content = read_json(path, "a file of splits")
    if not isinstance(content, dict) or not {"dataset", "splits", "sha256"} <= set(content):
        raise InputError(f"{path} is no file of splits; write one with `attiqa data splits`.")
    digest = content.pop("sha256")
    if digest != splits_digest(content):
        raise InputError(
            f"{path} has been changed since it was written: its SHA-256 does not match its content."
        )
    if content["dataset"] != rated.name:
        raise InputError(f"{path} splits {content['dataset']}, not {rated.name}.")
    rows = {name: row for row, name in enumerate(rated.names.tolist())}
    absent = {
        name
        for split in content["splits"]
        for side in SPLIT_NAMES
        for name in split[side]
        if name not in rows
    }
    if absent:
        raise InputError(
            f"{path} names {len(absent)} images that are not in {rated.name} as found, such as {min(absent)}."
        )
    splits = [
        Split(*(np.array([rows[name] for name in split[side]], dtype=np.int64) for side in SPLIT_NAMES))
        for split in content["splits"]
    ]
    return splits, digest


def splits_digest(content: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a file of splits without its own digest."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
