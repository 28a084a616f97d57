"""``attiqa finetune --dataset NAME --root DIR --model MODEL --out RUN``: fit to ratings (3.5)."""

from __future__ import annotations

import copy
import sys
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
from attiqa.evaluation.agreement import over_splits
from attiqa.evaluation.datasets import choose_splits
from attiqa.files import atomic_path, read_json, write_json
from attiqa.metrics import srocc
from attiqa.model import DEFAULT_MODEL, PRECISIONS, find_weights
from attiqa.nn.network import AttributeNetwork
from attiqa.options import as_record, option, parse
from attiqa.splits import Split, read_splits, subset_of_training, write_splits
from attiqa.training.finetuning import RatedImages, finetune


@dataclass(frozen=True)
class Options:
    """Options of `attiqa finetune`."""

    dataset: str = option(help="one of " + ", ".join(DATASETS))
    root: Path = option(help="the dataset's folder, as its owners distribute it", metavar="DIR")
    out: Path = option(help="run folder; splits that are finished there are kept", metavar="RUN")
    model: str = option(DEFAULT_MODEL, help="the pretrained start: bundled name, .safetensors, hub id")
    splits: str = option("auto", help="auto, official, random, or a file of splits")
    count: int = option(10, help="how many random splits")
    fraction: float = option(1.0, help="share of the training side that is used (Table 4: 0.1, 0.2)")
    epochs: int = option(100, help="passes over the training side")
    batch: int = option(16, help="images a step")
    learning_rate: float = option(1e-4, help="peak learning rate of AdamW")
    linear_probe: bool = option(False, help="freeze backbone and heads, fit the regressor alone (Table 6)")
    precision: str = option("float32", help="of the forward pass", choices=tuple(PRECISIONS))
    device: str = option("auto", help="where to train: auto, cpu, cuda")
    seed: int = option(0, help="of splits, order and crops")

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1 or self.count < 1:
            raise InputError(
                f"expected a --fraction above 0 and up to 1, and a --count of 1 or more; "
                f"got {self.fraction:g} and {self.count}."
            )


@command
def main(argv: list[str] | None = None) -> int:
    """Fine-tune on every split, report the last epoch and, beside it, the best on validation."""
    options = parse(Options, argv, prog="attiqa finetune", description=str(__doc__))
    claim(options)
    start, card = load_checkpoint(find_weights(options.model))
    rated = load_dataset(options.dataset, options.root)
    if Path(options.splits).is_file():
        splits, digest = read_splits(options.splits, rated)
    else:
        splits, made_by = choose_splits(rated, options.splits, count=options.count, seed=options.seed)
        digest = write_splits(options.out / "splits.json", rated, splits, made_by)
    if not splits:
        raise InputError("fine-tuning needs a split; give --splits auto, official, random or a file.")
    images = RatedImages(rated.paths, rated.unit_mos)
    for path, sentence in images.failures:
        print(f"skipped: {path}: {sentence}", file=sys.stderr)
    rated = rated.select(np.array(images.rows))
    splits = [within(split, images.rows) for split in splits]
    last, best = [], []
    for number, split in enumerate(splits):
        split = subset_of_training(rated, split, options.fraction, options.seed)
        scores = run_split(options, copy.deepcopy(start), card, images, split, number)
        last.append(scores["last"])
        best.append(scores["best_on_validation"])
    record = {
        "dataset": rated.name,
        "images": len(rated),
        "missing": len(rated.missing),
        "splits_sha256": digest,
        "start": card["digest"],
        "last_epoch": over_splits(np.array(last), rated.unit_mos, splits),
        "best_on_validation": over_splits(np.array(best), rated.unit_mos, splits),
        "options": as_record(options),
    }
    write_json(options.out / "result.json", record)
    report(record, rated)
    return 0


def claim(options: Options) -> None:
    """Mark the run folder with the options; another run's folder is refused, this run's is continued."""
    path, record = options.out / "options.json", as_record(options)
    if path.is_file() and read_json(path, "the options of a run") != record:
        raise InputError(f"{options.out} holds a run with other options ({path}); choose another --out.")
    write_json(path, record)


def within(split: Split, rows: list[int]) -> Split:
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
    """Fine-tune on one split; five-crop scores of all images after the last and the best epoch.

    The model of the last epoch is kept in the run folder. Best is by SROCC on the validation side, looked at
    ten times a run; without a validation side it is the last epoch. The test side is never looked at.
    """
    folder = options.out / f"split-{number}"
    if (folder / "scores.npz").is_file():
        return _load(folder / "scores.npz")
    network.to(pick_device(options.device))
    training, validation = images.subset(split.train), images.subset(split.validation)
    best_file = folder / "best.npz"

    def look(epoch: int) -> None:
        if len(validation) < 3 or epoch % max(1, options.epochs // 10):
            return
        value = srocc(validation.five_crop_scores(network), validation.mos.numpy())
        if not best_file.is_file() or value > _load(best_file)["srocc"]:
            _save(best_file, srocc=np.array(value), scores=images.five_crop_scores(network))

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
    last = images.five_crop_scores(network)
    best = _load(best_file)["scores"] if best_file.is_file() else last
    summary = f"fine-tuned from {card['digest'][:12]} on {options.dataset}, split {number}"
    save_checkpoint(folder / "model.safetensors", network, {**card, "name": "attiqa", "summary": summary})
    _save(folder / "scores.npz", last=last, best_on_validation=best)
    return {"last": last, "best_on_validation": best}


def _load(path: Path) -> dict[str, NDArray[np.float64]]:
    with np.load(path, allow_pickle=False) as kept:
        return dict(kept)


def _save(path: Path, **arrays: NDArray[np.float64]) -> None:
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def report(record: dict[str, Any], rated: RatedSet) -> None:
    """Print medians over splits."""
    print(f"{rated.name}: {len(rated)} images, {len(record['last_epoch']['rows'])} splits, median (std)")
    for name in ("last_epoch", "best_on_validation"):
        median, std = record[name]["median"], record[name]["std"]
        print(
            f"  {name.replace('_', ' '):<20} SROCC {median['srocc']:.3f} ({std['srocc']:.3f})  "
            f"PLCC {median['plcc']:.3f} ({std['plcc']:.3f})"
        )


if __name__ == "__main__":
    sys.exit(main(None))
