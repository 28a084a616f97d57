"""``attiqa finetune --dataset NAME --root DIR --model MODEL --out RUN``: fit to ratings (3.5)."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.checkpoint import load_checkpoint, save_checkpoint
from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.devices import pick_device
from attiqa.errors import InputError, command
from attiqa.evaluation.agreement import check_test_sides, over_splits, with_spread
from attiqa.evaluation.datasets import SPLIT_WORDS, choose_splits
from attiqa.files import atomic_path, write_json
from attiqa.metrics import srocc
from attiqa.model import DEFAULT_MODEL, PRECISIONS, find_weights
from attiqa.nn.network import AttributeNetwork
from attiqa.options import as_record, chosen, claim, option, parse
from attiqa.splits import Split, read_splits, subset_of_training, write_splits
from attiqa.training.finetuning import RatedImages, finetune
from attiqa.training.pixels import discard_pixels

_SHOWN = 5  # of the images that a run goes without

# what is fitted -> module with its own options and `main`; "attiqa" is this one
METHODS = {"attiqa": "", "clip-iqa-plus": "attiqa.cli.learned_prompts"}


@dataclass(frozen=True, kw_only=True)
class RatedOptions:
    """Options of every method that is fitted to ratings."""

    dataset: str = option(help="one of " + ", ".join(DATASETS))
    root: Path = option(help="the dataset's folder, as its owners distribute it", metavar="DIR")
    out: Path = option(help="run folder; splits that are finished there are kept", metavar="RUN")
    splits: str = option("auto", help="auto, official, random, or a file of splits")
    count: int = option(10, help="how many random splits")
    fraction: float = option(1.0, help="share of the training side that is used (Table 4: 0.1, 0.2)")
    seed: int = option(0, help="of splits, order and crops")

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1 or self.count < 1:
            raise InputError(
                f"expected a --fraction above 0 and up to 1, and a --count of 1 or more; "
                f"got {self.fraction:g} and {self.count}."
            )


@dataclass(frozen=True, kw_only=True)
class Options(RatedOptions):
    """Options of `attiqa finetune`."""

    method: str = option(
        "attiqa", choices=tuple(METHODS), help="what is fitted; `--method NAME --help` lists its options"
    )
    model: str = option(DEFAULT_MODEL, help="the pretrained start: bundled name, .safetensors, hub id")
    epochs: int = option(100, help="passes over the training side")
    batch: int = option(16, help="images a step")
    learning_rate: float = option(1e-4, help="peak learning rate of AdamW")
    linear_probe: bool = option(False, help="freeze backbone and heads, fit the regressor alone (Table 6)")
    precision: str = option("float32", help="of the forward pass", choices=tuple(PRECISIONS))
    device: str = option("auto", help="where to train: auto, cpu, cuda")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.batch) < 1 or not 0 < self.learning_rate < 1:
            raise InputError(
                "expected --epochs and --batch of 1 or more, and a --learning-rate between 0 and 1; "
                f"got {self.epochs}, {self.batch} and {self.learning_rate:g}."
            )


@command
def main(argv: list[str] | None = None) -> int:
    """Fine-tune on every split, report the last epoch and, beside it, the best on validation."""
    method, argv = chosen(
        sys.argv[1:] if argv is None else argv, "--method", tuple(METHODS), "attiqa finetune"
    )
    if METHODS[method]:
        return int(importlib.import_module(METHODS[method]).main(argv))
    options = parse(Options, argv, prog="attiqa finetune", description=str(__doc__))
    device = pick_device(options.device)
    start, card = load_checkpoint(find_weights(options.model))
    rated = load_dataset(options.dataset, options.root)
    splits, digest = planned_splits(options, rated)
    images = RatedImages(rated.paths, rated.unit_mos, folder=options.out)
    unreadable = [sentence for _, sentence in images.failures]
    rated, splits = readable(rated, splits, images.rows, unreadable)
    last: list[NDArray[np.float64]] = []
    best: list[NDArray[np.float64]] = []
    for number, split in enumerate(splits):
        split = subset_of_training(rated, split, options.fraction, options.seed)
        scores = run_split(options, copy.deepcopy(start).to(device), card, images, split, number)
        last.append(scores["last"])
        best.append(scores["best_on_validation"])
    by_model = {"last_epoch": last, "best_on_validation": best}
    finish(options, rated, splits, by_model, digest, card["digest"], unreadable)
    discard_pixels(options.out)
    return 0


def planned_splits(options: RatedOptions, rated: RatedSet) -> tuple[list[Split], str]:
    """The splits and their digest; the run's folder is claimed, and new splits are written into it."""
    if options.splits not in SPLIT_WORDS:
        splits, digest = read_splits(options.splits, rated)
        claim(options.out, options)
        return splits, digest
    splits, made_by = choose_splits(rated, options.splits, count=options.count, seed=options.seed)
    if not splits:
        raise InputError("fine-tuning needs a split; give --splits auto, official, random or a file.")
    check_sides(rated, splits)
    claim(options.out, options)
    return splits, write_splits(options.out / "splits.json", rated, splits, made_by)


def check_sides(rated: RatedSet, splits: Sequence[Split]) -> None:
    """Refuse splits that leave nothing to learn from, or too little to be tested on."""
    empty = [number for number, split in enumerate(splits) if not len(split.train)]
    if empty:
        raise InputError(
            f"split {empty[0]} of {rated.name} has no training image among the {len(rated)} found; bring "
            "more images, or give --splits random."
        )
    check_test_sides(rated.mos, splits)


def list_unused(rated: RatedSet, unreadable: Sequence[str]) -> None:
    """Count on stderr what the labels name and the run goes without; ``RUN/result.json`` lists all of it."""
    for what, items in (("missing", rated.missing), ("unreadable", unreadable)):
        if items:
            more = [f"... and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
            shown = (*items[:_SHOWN], *more)
            print(f"{rated.name}: {len(items)} images are {what}:", *shown, sep="\n  ", file=sys.stderr)


def readable(
    rated: RatedSet, splits: Sequence[Split], rows: Sequence[int], unreadable: Sequence[str]
) -> tuple[RatedSet, list[Split]]:
    """Both without the images that cannot be read: `rows` remain. What is left out is listed on stderr.

    Raises:
        InputError: a split is left without enough to learn from or to be tested on.
    """
    list_unused(rated, unreadable)
    rated = rated.select(np.array(rows, dtype=np.int64))
    splits = [within(split, rows) for split in splits]
    check_sides(rated, splits)
    return rated, splits


def within(split: Split, rows: Sequence[int]) -> Split:
    """The split renumbered to the images that could be read."""
    place = {row: index for index, row in enumerate(rows)}
    sides = (split.train, split.validation, split.test)
    return Split(
        *(np.array([place[r] for r in side.tolist() if r in place], dtype=np.int64) for side in sides)
    )


def run_split(
    options: Options,
    network: AttributeNetwork,
    card: dict[str, Any],
    images: RatedImages,
    split: Split,
    number: int,
) -> dict[str, NDArray[np.float64]]:
    """Fine-tune on one split; five-crop scores of its test side after the last and the best epoch.

    The scores are ``(N,)`` over all images, NaN where they are not tested.

    The model of the last epoch is kept in the run folder. Best is by SROCC on the validation side, looked at
    ten times a run; without a validation side it is the last epoch. The test side is never looked at.
    """
    folder = options.out / f"split-{number}"
    if (folder / "scores.npz").is_file():
        return load_scores(folder / "scores.npz")
    training, validation = images.subset(split.train), images.subset(split.validation)
    best_file = folder / "best.npz"

    def tested() -> NDArray[np.float64]:
        scores = np.full(len(images), np.nan)
        scores[split.test] = images.subset(split.test).five_crop_scores(network)
        return scores

    def look(epoch: int) -> None:
        if len(validation) < 3 or epoch % max(1, options.epochs // 10):
            return
        try:
            value = srocc(validation.five_crop_scores(network), validation.mos.numpy())
        except InputError:
            return  # a few images of one rating tell no epochs apart
        if not best_file.is_file() or value > load_scores(best_file)["srocc"]:
            save_scores(best_file, srocc=np.array(value), scores=tested())

    finetune(
        network,
        training,
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        frozen_backbone=options.linear_probe,
        seed=options.seed,
        precision=PRECISIONS[options.precision],
        state=folder / "state.safetensors",
        after_epoch=look,
    )
    last = tested()
    best = load_scores(best_file)["scores"] if best_file.is_file() else last
    summary = f"fine-tuned from {card['digest'][:12]} on {options.dataset}, split {number}"
    save_checkpoint(folder / "model.safetensors", network, {**card, "name": "attiqa", "summary": summary})
    save_scores(folder / "scores.npz", last=last, best_on_validation=best)
    return {"last": last, "best_on_validation": best}


def load_scores(path: Path) -> dict[str, NDArray[np.float64]]:
    """The arrays that `save_scores` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        return dict(kept)


def save_scores(path: Path, **arrays: NDArray[np.float64]) -> None:
    """Write named arrays to a ``.npz`` file, whole or not at all."""
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def finish(
    options: RatedOptions,
    rated: RatedSet,
    splits: list[Split],
    scores: dict[str, list[NDArray[np.float64]]],
    digest: str,
    start: str,
    unreadable: Sequence[str],
) -> None:
    """Write ``RUN/result.json`` and print medians over splits.

    Args:
        options: of the run.
        rated: the images that could be read.
        splits: S of them.
        scores: which model of a split (``last_epoch``, ...) to S rows ``(N,)``.
        digest: of the splits.
        start: digest of what was fitted.
        unreadable: a sentence on each image that could not be read.
    """
    tables = {name: over_splits(np.array(rows), rated.unit_mos, splits) for name, rows in scores.items()}
    record = {
        "dataset": rated.name,
        "images": len(rated),
        "missing": list(rated.missing),
        "unreadable": list(unreadable),
        "splits_sha256": digest,
        "start": start,
        **tables,
        "options": as_record(options),
    }
    write_json(options.out / "result.json", record)
    print(f"{rated.name}: {len(rated)} images, {len(splits)} splits, median \u00b1 standard deviation")
    for name, table in tables.items():
        cells = (f"{metric.upper()} {with_spread(table, metric)}" for metric in ("srocc", "plcc"))
        print(f"  {name.replace('_', ' '):<20}", *cells, sep="  ")


if __name__ == "__main__":
    sys.exit(main(None))
