"""The paper's Tables 2 to 7 on whatever datasets are on disk. ``python benchmarks/iqa.py --help``.

Each model's features are fitted to the ratings by a linear probe (frozen backbone, ridge regression whose
penalty is chosen on the training side): the paper's Table 6. The other tables' settings (other datasets, less
data, other checkpoints) are run with that same fit and say so; a fine-tuned checkpoint takes part as one more
--model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

import attiqa
from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.evaluation.agreement import METRICS
from attiqa.files import write_text
from attiqa.images import read_image, to_float
from attiqa.options import as_record, option, parse
from attiqa.views import VIEWS
from benchmarks.agreement import agreement, metric_cells, metric_header
from benchmarks.grid import (
    Cell,
    collect,
    plan_grid,
    run_grid,
    sample_images,
    setting_of,
    split_for,
    take_share,
)
from benchmarks.in_domain import image_features, linear_probe, median_row
from benchmarks.records import names_digest, write_record
from benchmarks.tables import markdown, with_interval

TABLES = {
    "main": "Table 2: each dataset on its own splits",
    "cross": "Table 3: fitted on one dataset, tested on another",
    "data-efficient": "Table 4: 10 % and 20 % of the training side",
    "features": "Table 5: cosine of features before and after fine-tuning",
    "linear-probe": "Table 6: frozen backbone, linear fit",
    "ablation": "Table 7: several checkpoints under one protocol",
}
PAPERS_SETS = ("clive", "koniq10k", "spaq", "flive", "ava")
QUICK_IMAGES, QUICK_SPLITS = 200, 2
NOT_REPORTED = (
    "Reported rows: none. The paper's Tables 2 to 7 could not be read here, "
    "and no figure is given from memory."
)

NO_DATA = """\
At least one rated dataset is needed: --data NAME=DIR, several times.
  The paper's are {names}.
  `attiqa data` shows each one's folder and origin; `csv` takes a table of your own (name,mos).
  A small check: --quick; the plan alone: --plan.
  Then: python benchmarks/iqa.py --table main --data koniq10k=DIR clive=DIR"""


@dataclass(frozen=True, kw_only=True)
class IqaOptions:
    """Options of the paper's tables."""

    table: str = option(help="which table", choices=tuple(TABLES))
    data: list[str] = option([], help="datasets, each as NAME=FOLDER", metavar="NAME=DIR")
    model: list[str] = option(["attiqa-mini"], help="models: bundled names, files, hub ids")
    after: str | None = option(None, help="table features: the fine-tuned checkpoint of the one --model")
    splits: int = option(10, help="random splits a dataset; official splits are one")
    quick: bool = option(False, help=f"{QUICK_SPLITS} splits, {QUICK_IMAGES} images a dataset")
    plan: bool = option(False, help="print what would run and how long it should take, then stop")
    only: str = option("", help="run the cells whose description holds this text", metavar="TEXT")
    shard: str = option(
        "1/1", help="run the I-th of N shares; start N processes with one --out", metavar="I/N"
    )
    view: str = option("five", help="what a model sees of an image", choices=VIEWS)
    device: str = option("cpu", help="where models run")
    seed: int = option(0, help="of splits and samples")
    out: Path | None = option(None, help="folder of cells and record", metavar="DIR")


@command
def main(argv: list[str] | None = None) -> int:
    """Plan, run this process's share, print what is finished, write the record; returns the exit code."""
    options = parse(IqaOptions, argv, prog="benchmarks/iqa.py", description=__doc__ or "")
    if not options.data:
        print(NO_DATA.format(names=", ".join(PAPERS_SETS)), file=sys.stderr)
        return EXIT_BAD_INPUT
    sets = _load_sets(options)
    folder = options.out or Path("runs") / "benchmarks" / f"iqa-{options.table}"
    if options.table == "features":
        return _features_table(options, sets, folder)
    splits = QUICK_SPLITS if options.quick else options.splits
    cells = plan_grid(options.table, options.model, sets, splits, (0.1, 0.2))
    share = take_share(cells, options.only, options.shard)
    digests = [attiqa.load(name).digest for name in options.model]
    setting = setting_of(sets, seed=options.seed, view=options.view, fit="linear probe", models=digests)
    finished = collect(share, folder, setting)
    print(_plan(options, sets, share, len(finished)))
    if options.plan:
        return EXIT_OK
    run_grid(share, lambda cell: _work(cell, sets, options, folder), folder, setting)
    results = collect(cells, folder, setting)
    text = _report(options, results, len(cells))
    print(text)
    _write(options, folder, sets, text, {"cells": len(cells), "rows": _rows(results)})
    return EXIT_OK


def _load_sets(options: IqaOptions) -> dict[str, RatedSet]:
    sets = {}
    for named in options.data:
        name, _, place = named.partition("=")
        if not place:
            raise InputError(
                f"--data takes NAME=FOLDER with a name of {', '.join(DATASETS)}; it got {named!r}."
            )
        rated = load_dataset(name, place)
        sets[rated.name] = sample_images(rated, QUICK_IMAGES, options.seed) if options.quick else rated
    return sets


def _plan(options: IqaOptions, sets: Mapping[str, RatedSet], share: Sequence[Cell], finished: int) -> str:
    """What will run, and how long it should take by the time of a few images."""
    names = {name for cell in share for name in (cell.train, cell.test)}
    images = sum(len(sets[name]) for name in names)
    seconds = sum(_seconds_an_image(model, options, sets) for model in options.model) * images
    absent = [DATASETS[name].title for name in PAPERS_SETS if name not in sets]
    lines = [
        f"{TABLES[options.table]}: {len(share)} cells in share {options.shard}, {finished} of them finished.",
        f"Features of {images} images for {len(options.model)} models: about {seconds / 60:.1f} minutes, "
        "less what an earlier run left in the folder.",
    ]
    return "\n".join(lines + ([f"Not on disk: {', '.join(absent)}."] if absent else []))


def _seconds_an_image(model_name: str, options: IqaOptions, sets: Mapping[str, RatedSet]) -> float:
    model = attiqa.load(model_name, device=options.device)
    times = []
    for rated in sets.values():
        for path in rated.paths[:3]:
            start = time.monotonic()
            try:
                model.features(to_float(read_image(path))[None], options.view)
            except InputError:
                continue  # the run itself counts unreadable images
            times.append(time.monotonic() - start)
    return float(np.median(times)) if times else 0.0


def _work(cell: Cell, sets: Mapping[str, RatedSet], options: IqaOptions, folder: Path) -> dict[str, Any]:
    """Fit and test one cell."""
    train, test = sets[cell.train], sets[cell.test]
    split = split_for(train, cell, options.seed)
    place = (options.device, options.view, folder)
    features = image_features(train, cell.model, *place)
    fitted_on = split.train[np.isfinite(features[split.train]).all(axis=1)]
    if len(set(train.groups[fitted_on])) < 2:
        raise InputError(f"{cell}: {len(fitted_on)} readable training images are too few; use more data.")
    probe = linear_probe(features[fitted_on], train.mos[fitted_on], train.groups[fitted_on])
    rows = split.test if cell.train == cell.test else np.arange(len(test))
    unseen = (features if cell.train == cell.test else image_features(test, cell.model, *place))[rows]
    readable = np.isfinite(unseen).all(axis=1)
    predicted = np.full(len(rows), np.nan)
    predicted[readable] = probe.predict(unseen[readable])
    result = agreement(predicted, test.mos[rows], test.groups[rows], repeats=0)
    return result | {"train_images": len(fitted_on), "test_digest": names_digest(test.names[rows])}


def _rows(results: Mapping[Cell, dict[str, Any]]) -> list[dict[str, Any]]:
    """Median, lowest and highest split for each row of the table."""
    rows = []
    for key in dict.fromkeys(cell.row for cell in results):
        mine = [result for cell, result in results.items() if cell.row == key]
        model, train, test, fraction = key
        facts = {"model": model, "train": train, "test": test, "fraction": fraction}
        rows.append(facts | median_row(mine))
    return rows


def _report(options: IqaOptions, results: Mapping[Cell, dict[str, Any]], planned: int) -> str:
    header = ["model", "fitted on", "tested on", "share", "splits", *metric_header()]
    rows = []
    for row in _rows(results):
        names = [row["model"], row["train"], row["test"]]
        rows.append([*names, f"{row['fraction']:.0%}", str(len(row["splits"])), *metric_cells(row)])
    quick = " A quick look: not the full datasets." if options.quick else ""
    return "\n\n".join(
        [
            f"## {TABLES[options.table]}",
            f"Measured by linear probe; {len(results)} of {planned} cells finished. "
            f"Medians over the splits, the lowest and highest in brackets.{quick}",
            markdown(header, rows),
            NOT_REPORTED,
        ]
    )


def _features_table(options: IqaOptions, sets: Mapping[str, RatedSet], folder: Path) -> int:
    """Cosine of pooled features before and after fine-tuning: how much of the pretraining is kept."""
    if options.after is None or len(options.model) != 1:
        raise InputError("the table features compares one --model with its fine-tuned --after checkpoint.")
    rows: list[dict[str, Any]] = []
    for name, rated in sets.items():
        place = (options.device, options.view, folder)
        one, other = (image_features(rated, model, *place) for model in (options.model[0], options.after))
        if one.shape != other.shape:
            raise InputError(f"{options.model[0]} and {options.after} have features of different widths.")
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosine = (one * other).sum(axis=1) / norms
        known = cosine[np.isfinite(cosine)]
        if not known.size:
            raise InputError(f"no image of {name} could be read.")
        ends = np.quantile(known, [0.05, 0.95]).tolist()
        rows.append({"dataset": name, "images": known.size, "cosine": float(known.mean()), "spread": ends})
    cells = [[r["dataset"], str(r["images"]), with_interval(r["cosine"], r["spread"])] for r in rows]
    table = markdown(["dataset", "images", "mean cosine [5 %, 95 %]"], cells)
    text = "\n\n".join([f"## {TABLES['features']}", table, NOT_REPORTED])
    print(text)
    _write(options, folder, sets, text, {"rows": rows})
    return EXIT_OK


def _write(
    options: IqaOptions, folder: Path, sets: Mapping[str, RatedSet], text: str, content: Mapping[str, Any]
) -> None:
    write_text(folder / "report.md", text + "\n")
    facts = {
        name: {"images": len(rated), "digest": names_digest(rated.names)} for name, rated in sets.items()
    }
    record = {
        "options": as_record(options),
        "fit": "linear probe",
        "metrics": list(METRICS),
        "datasets": facts,
    }
    write_record(folder, "iqa", ["benchmarks/iqa.py"], record | dict(content) | {"report": text})


if __name__ == "__main__":
    sys.exit(main(None))
