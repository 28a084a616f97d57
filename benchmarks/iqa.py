"""The paper's Tables 2 to 7 on whatever datasets are on disk. ``python benchmarks/iqa.py --help``.

Each cell of a table is one fit and one test: fine-tuning as in the paper (``--in-domain finetune``), or the
quick form, ridge regression on frozen features (``--in-domain linear-probe``, always so in Table 6). The grid
is planned first (``--plan``), can be cut (``--only``), resumed, and shared by processes (``--shard``).
"""

from __future__ import annotations

import sys
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
from attiqa.devices import pick_device
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.evaluation.agreement import METRICS
from attiqa.files import write_text
from attiqa.options import as_record, option, parse
from attiqa.views import VIEWS
from benchmarks.agreement import agreement
from benchmarks.common import QUICK_NOTE
from benchmarks.fits import FITS, FineTune, Fit, LinearProbe, image_features
from benchmarks.grid import (
    Cell,
    collect,
    grid_items,
    is_official,
    plan_grid,
    run_grid,
    sample_images,
    setting_of,
    split_for,
    take_share,
)
from benchmarks.iqa_report import TABLES, report, table_rows
from benchmarks.paper import reported_rows
from benchmarks.plots import bars
from benchmarks.records import command_line, names_digest, write_items, write_record
from benchmarks.scoring import default_cache
from benchmarks.tables import markdown, with_interval

BOOTSTRAP_DRAWS = 1000
FRACTIONS = (0.1, 0.2)  # of the training side, Table 4
PAPERS_SETS = ("clive", "koniq10k", "spaq", "flive", "ava")
QUICK_IMAGES, QUICK_SPLITS, QUICK_EPOCHS = 200, 2, 2

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
    in_domain: str = option(
        "finetune",
        help="how a model is fitted: finetune (the paper's protocol; needs a GPU or patience), or "
        "linear-probe (frozen features); the table linear-probe always takes the latter",
        choices=FITS,
    )
    splits: int = option(10, help="random splits a dataset; official splits are one")
    epochs: int = option(100, help="of fine-tuning")
    quick: bool = option(
        False, help=f"{QUICK_SPLITS} splits, {QUICK_IMAGES} images a dataset, {QUICK_EPOCHS} epochs"
    )
    plan: bool = option(False, help="print what would run and how long it should take, then stop")
    only: str = option("", help="run the cells whose description holds this text", metavar="TEXT")
    shard: str = option(
        "1/1", help="run the I-th of N shares; start N processes with one --cache", metavar="I/N"
    )
    view: str = option("five", help="what a linear probe sees of an image", choices=VIEWS)
    device: str = option("auto", help="where models run: auto, cpu, cuda")
    seed: int = option(0, help="of splits and samples")
    cache: Path = option(
        default_cache(),
        help="finished cells, features and states of fits, by what they depend on",
        metavar="DIR",
    )
    out: Path | None = option(None, help="folder of record, report and picture", metavar="DIR")

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(pick_device(self.device)))
        if min(self.splits, self.epochs) < 1:
            raise InputError(f"--splits and --epochs are 1 or more; these are {self.splits}, {self.epochs}.")
        twice = sorted({name for name in self.model if self.model.count(name) > 1})
        if twice:
            raise InputError(f"--model names {', '.join(twice)} more than once.")
        if self.quick:
            object.__setattr__(self, "splits", min(self.splits, QUICK_SPLITS))
            object.__setattr__(self, "epochs", min(self.epochs, QUICK_EPOCHS))

    @property
    def fit(self) -> Fit:
        """The fit of every cell."""
        if self.in_domain == "linear-probe" or self.table == "linear-probe":
            return LinearProbe(self.device, self.view, self.cache / "fits")
        return FineTune(self.device, self.cache / "fits", epochs=self.epochs, seed=self.seed)


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
        return _features_table(argv, options, sets, folder)
    fit = options.fit
    cells = plan_grid(options.table, options.model, sets, options.splits, FRACTIONS)
    share = take_share(cells, options.only, options.shard)
    digests = {name: attiqa.load(name).digest for name in options.model}
    described = {"fit": dict(fit.describe()), "draws": BOOTSTRAP_DRAWS}
    setting = setting_of(sets, seed=options.seed, models=digests, **described)
    finished = collect(share, options.cache, setting)
    print(_plan(options, sets, fit, share, [cell for cell in share if cell not in finished]))
    if options.plan:
        return EXIT_OK
    run_grid(share, lambda cell: _work(cell, sets, fit, options.seed), options.cache, setting)
    results = collect(cells, options.cache, setting)
    rows = table_rows(results)
    done = f"{fit.label}; {len(results)} of {len(cells)} cells finished."
    text = report(options.table, done, sets, rows) + (f"\n\n{QUICK_NOTE}" if options.quick else "")
    print(text)
    _write(
        argv, options, folder, sets, text, {"fit": dict(fit.describe()), "cells": len(cells), "rows": rows}
    )
    write_items(folder / "items.csv", grid_items(results))
    _draw(folder / "srocc.png", rows)
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


def _plan(
    options: IqaOptions, sets: Mapping[str, RatedSet], fit: Fit, share: Sequence[Cell], left: Sequence[Cell]
) -> str:
    """What will run, and how long it should take by the time of a few images."""
    absent = [DATASETS[name].title for name in PAPERS_SETS if name not in sets]
    # in its own set a cell trains on four fifths of the images, and then on a share of them
    jobs = [(c.model, c.train, c.test, c.fraction * (0.8 if c.train == c.test else 1)) for c in left]
    seconds = {job: fit.seconds(job[0], sets[job[1]], sets[job[2]], job[3]) for job in set(jobs)}
    minutes = sum(seconds[job] for job in (set(jobs) if fit.shared else jobs)) / 60
    lines = [
        f"{TABLES[options.table]}, {fit.label}: {len(share)} cells in share {options.shard}, "
        f"{len(share) - len(left)} of them finished.",
        f"The other {len(left)} should take about {minutes:.1f} minutes on {options.device}, "
        "less what an earlier run left.",
    ]
    if options.plan:
        lines += [f"- {cell}" for cell in left]
    return "\n".join(lines + ([f"Not on disk: {', '.join(absent)}."] if absent else []))


def _work(cell: Cell, sets: Mapping[str, RatedSet], fit: Fit, seed: int) -> dict[str, Any]:
    """Fit and test one cell."""
    train, test = sets[cell.train], sets[cell.test]
    split = split_for(train, cell, seed)
    tested = split.test if train is test else np.arange(len(test))
    predicted = fit.predict(cell.model, train, split.train, test, tested)
    # random splits show their own spread; what is tested once gets a bootstrap interval
    once = train is not test or is_official(train)
    repeats = BOOTSTRAP_DRAWS if once else 0
    result = agreement(predicted.values, test.mos[tested], test.groups[tested], repeats=repeats, seed=seed)
    return result | {
        "train_images": predicted.fitted_on,
        "test_digest": names_digest(test.names[tested]),
        "predicted": dict(zip(test.names[tested].tolist(), predicted.values.tolist(), strict=True)),
        "ratings": test.mos[tested].tolist(),
    }


def _draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """SROCC of each row as a bar, from the lowest to the highest split."""
    cells = [row["metrics"]["srocc"] for row in rows]
    bars(
        path,
        [f"{row['model']}, {row['train']} to {row['test']}, {row['fraction']:.0%}" for row in rows],
        [float("nan") if cell["value"] is None else cell["value"] for cell in cells],
        [cell["interval"] for cell in cells],
        "SROCC, median over splits",
    )


def _features_table(
    argv: Sequence[str] | None, options: IqaOptions, sets: Mapping[str, RatedSet], folder: Path
) -> int:
    """Cosine of pooled features before and after fine-tuning: how much of the pretraining is kept."""
    if options.after is None or len(options.model) != 1:
        raise InputError("the table features compares one --model with its fine-tuned --after checkpoint.")
    if options.plan:
        images = sum(len(rated) for rated in sets.values())
        print(f"{TABLES['features']}: two models on {images} images of {', '.join(sets)}.")
        return EXIT_OK
    rows: list[dict[str, Any]] = []
    items: dict[str, list[Any]] = {"dataset": [], "image": [], "cosine": []}
    for name, rated in sets.items():
        place = (options.device, options.view, options.cache / "fits")
        one, other = (image_features(rated, model, *place) for model in (options.model[0], options.after))
        if one.shape != other.shape:
            raise InputError(f"{options.model[0]} and {options.after} have features of different widths.")
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosine = (one * other).sum(axis=1) / norms
        known = cosine[np.isfinite(cosine)]
        if not known.size:
            raise InputError(f"no image of {name} could be read.")
        ends = np.quantile(known, [0.05, 0.95]).tolist()
        counts = {"images": known.size, "left_out": len(rated) - known.size}
        rows.append({"dataset": name, **counts, "cosine": float(known.mean()), "spread": ends})
        items["dataset"] += [name] * len(rated)
        items["image"] += rated.names.tolist()
        items["cosine"] += cosine.tolist()
    cells = [
        [
            row["dataset"],
            str(row["images"]),
            str(row["left_out"]),
            with_interval(row["cosine"], row["spread"]),
        ]
        for row in rows
    ]
    table = markdown(["dataset", "images", "left out", "mean cosine [5 %, 95 %]"], cells)
    text = "\n\n".join([f"## {TABLES['features']}", table, reported_rows("features", sets)[1]])
    print(text)
    _write(argv, options, folder, sets, text, {"rows": rows})
    write_items(folder / "items.csv", items)
    return EXIT_OK


def _write(
    argv: Sequence[str] | None,
    options: IqaOptions,
    folder: Path,
    sets: Mapping[str, RatedSet],
    text: str,
    content: Mapping[str, Any],
) -> None:
    write_text(folder / "report.md", text + "\n")
    facts = {
        name: {
            "images": len(rated),
            "not_on_disk": list(rated.missing),
            "digest": names_digest(rated.names),
            "notes": list(rated.notes),
        }
        for name, rated in sets.items()
    }
    printed, remark = reported_rows(options.table, sets)
    record = {
        "options": as_record(options),
        "metrics": list(METRICS),
        "datasets": facts,
        "reported": [figure.describe() for figure in printed],
        "not_reported": remark,
    }
    write_record(
        folder, "iqa", command_line("benchmarks/iqa.py", argv), record | dict(content) | {"report": text}
    )


if __name__ == "__main__":
    sys.exit(main(None))
