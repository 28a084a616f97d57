"""``attiqa data list | check | splits``: the known datasets, whether one is whole, its splits as a file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.evaluation.datasets import choose_splits
from attiqa.images import read_image
from attiqa.options import option, parse
from attiqa.progress import progress_bar
from attiqa.scoring import read_ahead
from attiqa.splits import subset_of_training, write_splits


@dataclass(frozen=True)
class DataOptions:
    """Options of ``attiqa data``."""

    action: str = option(
        "list",
        positional=True,
        choices=("list", "check", "splits"),
        help="list the known datasets, check that one is whole and readable, or write its splits",
    )
    dataset: str = option("", help="one of " + ", ".join(DATASETS))
    root: Path | None = option(None, help="the dataset's folder")
    out: Path = option(Path("splits.json"), help="file for the splits")
    which: str = option("auto", choices=("auto", "official", "random"), help="splits to write")
    count: int = option(10, help="how many random splits")
    fraction: float = option(1.0, help="keep only this share of the training side, such as 0.1 or 0.2")
    seed: int = option(0, help="of the random splits")

    def __post_init__(self) -> None:
        if self.action != "list" and (not self.dataset or self.root is None):
            raise InputError(f"attiqa data {self.action} needs --dataset and --root.")


@command
def main(argv: list[str] | None = None) -> int:
    """Run one action; exit code 2 where a check finds images that cannot be used."""
    options = parse(
        DataOptions,
        argv,
        prog="attiqa data",
        description="Datasets of rated images, as their owners ship them.",
    )
    if options.action == "list" or options.root is None:
        for name, dataset in DATASETS.items():
            print(f"{name:<12} {dataset.title}: {dataset.layout}\n{'':<12} {dataset.origin}")
        return EXIT_OK
    rated = load_dataset(options.dataset, options.root)
    return _check(rated) if options.action == "check" else _write_splits(rated, options)


def _check(rated: RatedSet) -> int:
    low, high = rated.mos_range
    print(
        f"{rated.name}: {len(rated)} images, "
        f"MOS {rated.mos.min():.3g} to {rated.mos.max():.3g} on a scale of {low:g} to {high:g}"
    )
    if rated.grouping != "image":
        print(f"{len(set(rated.groups))} groups by {rated.grouping}")
    for note in rated.notes:
        print(note)
    workers = os.cpu_count() or 1
    progress = progress_bar(read_ahead(rated.paths, read_image, workers, 2 * workers), total=len(rated))
    unreadable = [str(image) for _, image in progress if isinstance(image, InputError)]
    for what, items in (("missing", rated.missing), ("unreadable", unreadable)):
        if items:
            print(f"{len(items)} images are {what}:", *items, sep="\n  ")
    if rated.missing or unreadable:
        return EXIT_BAD_INPUT
    print("every image is there and can be read")
    return EXIT_OK


def _write_splits(rated: RatedSet, options: DataOptions) -> int:
    splits, made_by = choose_splits(rated, options.which, count=options.count, seed=options.seed)
    if options.fraction != 1:
        splits = [subset_of_training(rated, split, options.fraction, options.seed) for split in splits]
        made_by += f", {options.fraction:g} of the training groups"
    digest = write_splits(options.out, rated, splits, made_by)
    first = splits[0]
    sizes = f"{len(first.train)} train, {len(first.validation)} validation, {len(first.test)} test images"
    print(f"{len(splits)} splits ({made_by}), the first of {sizes}\nsha256 {digest}")
    print(f"written to {options.out}", file=sys.stderr)
    return EXIT_OK
