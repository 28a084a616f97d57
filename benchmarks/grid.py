"""A grid of fits and tests: planned as a whole, run cell by cell, resumed, cut, and shared by processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.files import read_json, write_json
from attiqa.splits import Split, official_split, random_splits, subset_of_training
from benchmarks.records import names_digest, plain
from benchmarks.scorers import identity

# datasets whose owners' split the paper uses; the others get random splits by group
OFFICIAL = frozenset({"flive", "ava"})


@dataclass(frozen=True)
class Cell:
    """One fit and one test.

    Attributes:
        model: what is fitted.
        train: dataset that it is fitted on.
        test: dataset that it is tested on; the same, or another one whole.
        split: number of the split of `train`.
        fraction: share of the training side that is used.
    """

    model: str
    train: str
    test: str
    split: int = 0
    fraction: float = 1.0

    @property
    def row(self) -> tuple[str, str, str, float]:
        """What a table's row stands for: the cell without its split."""
        return self.model, self.train, self.test, self.fraction

    def __str__(self) -> str:
        share = "" if self.fraction == 1 else f", {self.fraction:.0%} of the training side"
        return f"{self.model}: {self.train} -> {self.test}, split {self.split}{share}"


def plan_grid(
    table: str, models: Sequence[str], sets: Mapping[str, RatedSet], splits: int, fractions: Sequence[float]
) -> list[Cell]:
    """The cells of one of the paper's tables, for the datasets at hand."""
    cells = []
    for model in models:
        for train, rated in sets.items():
            numbers = range(1 if is_official(rated) else splits)
            if table == "cross":
                cells += [Cell(model, train, test) for test in sets if test != train]
            else:
                shares = fractions if table == "data-efficient" else [1.0]
                cells += [Cell(model, train, train, number, share) for share in shares for number in numbers]
    if not cells:
        raise InputError(
            f"the table {table} has nothing to run on {', '.join(sets) or 'no dataset'}; "
            "cross needs two datasets or more, the others one (--data NAME=DIR)."
        )
    return cells


def is_official(rated: RatedSet) -> bool:
    """Whether the paper tests this set on its owners' split."""
    return rated.name in OFFICIAL and rated.splits is not None


def take_share(cells: Sequence[Cell], only: str, shard: str) -> list[Cell]:
    """The cells whose description holds `only`, and of those the share ``I/N`` of this process."""
    chosen = [cell for cell in cells if only in str(cell)]
    if not chosen:
        raise InputError(f"--only {only!r} fits none of {len(cells)} cells; the first is {str(cells[0])!r}.")
    number, _, total = shard.partition("/")
    if not (number.isdigit() and total.isdigit() and 1 <= int(number) <= int(total)):
        raise InputError(f"--shard is I/N with I from 1 to N, such as 1/4; it is {shard!r}.")
    return chosen[int(number) - 1 :: int(total)]


def split_for(rated: RatedSet, cell: Cell, seed: int) -> Split:
    """The rows of `cell`'s fit and test on its training set; a cross-dataset fit takes every image."""
    if cell.train != cell.test:
        everything = np.arange(len(rated))
        return Split(everything, everything[:0], everything[:0])
    if is_official(rated):
        split = official_split(rated)
    else:
        split = random_splits(rated, cell.split + 1, validation=0, seed=seed)[cell.split]
    return split if cell.fraction == 1 else subset_of_training(rated, split, cell.fraction, seed)


def sample_images(rated: RatedSet, most: int, seed: int) -> RatedSet:
    """At most `most` images of a set, for a quick look; their order stays."""
    if len(rated) <= most:
        return rated
    return rated.select(np.sort(np.random.default_rng(seed).choice(len(rated), most, replace=False)))


def run_grid(
    cells: Sequence[Cell], work: Callable[[Cell], dict[str, Any]], folder: Path, setting: str
) -> tuple[int, int]:
    """Run the cells that are not done; each leaves a file at once, so a stopped run goes on behind it.

    Args:
        cells: this process's share.
        work: fits and tests one cell; returns JSON values.
        folder: gets one file a cell.
        setting: identity of everything else that the result depends on: other settings, other files.

    Returns:
        how many cells were run, and how many were there already.
    """
    done = 0
    for number, cell in enumerate(cells, start=1):
        path = _cell_path(folder, cell, setting)
        if path.is_file():
            continue
        start = time.monotonic()
        result = work(cell)
        seconds = time.monotonic() - start
        write_json(path, plain({"cell": asdict(cell), "seconds": seconds, **result}))
        done += 1
        print(f"[{number}/{len(cells)}] {cell}: {seconds:.1f} s", flush=True)
    return done, len(cells) - done


def collect(cells: Sequence[Cell], folder: Path, setting: str) -> dict[Cell, dict[str, Any]]:
    """The results of the cells that any process has finished."""
    paths = {cell: _cell_path(folder, cell, setting) for cell in cells}
    return {cell: read_json(path, "a finished cell") for cell, path in paths.items() if path.is_file()}


def grid_items(results: Mapping[Cell, dict[str, Any]]) -> dict[str, list[Any]]:
    """What every cell predicts of every tested image, as columns of a CSV."""
    columns: dict[str, list[Any]] = {name: [] for name in (*Cell.__dataclass_fields__, "image")}
    columns |= {"predicted": [], "rating": []}
    for cell, result in results.items():
        for (image, value), rating in zip(result["predicted"].items(), result["ratings"], strict=True):
            row = {**asdict(cell), "image": image, "predicted": value, "rating": rating}
            for name, column in columns.items():
                column.append(row[name])
    return columns


def setting_of(sets: Mapping[str, RatedSet], **settings: Any) -> str:
    """Identity of the data and the settings behind a grid's results."""
    images = [f"{name} {names_digest(rated.names)}" for name, rated in sets.items()]
    return identity(*images, *(f"{name}={value}" for name, value in sorted(settings.items())))


def _cell_path(folder: Path, cell: Cell, setting: str) -> Path:
    return folder / "cells" / f"{identity(repr(cell), setting)[:20]}.json"
