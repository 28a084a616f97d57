"""``attiqa evaluate``: models against human ratings, with intervals, splits, a record and a picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.devices import pick_device
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.evaluation.agreement import METRICS, check_test_sides, with_spread
from attiqa.evaluation.datasets import (
    SPLIT_WORDS,
    Scored,
    choose_splits,
    evaluate_scored,
    score_rated_set,
)
from attiqa.evaluation.features import check_one_backbone, feature_cosine
from attiqa.evaluation.plots import draw_scatter
from attiqa.files import write_json
from attiqa.model import DEFAULT_MODEL, QualityModel, load
from attiqa.options import as_record, option, parse
from attiqa.splits import Split, read_splits, write_splits
from attiqa.views import VIEWS


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of ``attiqa evaluate``."""

    dataset: list[str] = option(help="one or several of " + ", ".join(DATASETS))
    root: list[Path] = option(help="the folder of each dataset, in the same order")
    model: list[str] = option([DEFAULT_MODEL], help="bundled models, .safetensors files, hub ids")
    out: Path = option(Path("evaluation"), help="folder for record, scores, splits, picture")
    splits: str = option("auto", help=f"{', '.join(SPLIT_WORDS)}, or a file of splits")
    count: int = option(10, help="how many random splits")
    crops: str = option("five", choices=VIEWS, help="what the model sees; five is the paper's protocol")
    before: str | None = option(None, help="a model before fine-tuning, for the feature cosine")
    repeats: int = option(1000, help="bootstrap draws; 0 leaves the intervals out")
    seed: int = option(0, help="of splits and draws")
    batch: int = option(32, help="images in one forward pass")
    workers: int = option(0, help="threads that decode images; 0 takes one for each processor")
    device: str = option("auto", help="cpu, cuda, or auto")

    def __post_init__(self) -> None:
        if len(self.dataset) != len(self.root):
            raise InputError(
                f"--dataset and --root go in pairs; there are {len(self.dataset)} and {len(self.root)}."
            )
        if min(self.batch, self.count) < 1 or min(self.workers, self.repeats) < 0:
            raise InputError("--batch and --count must be at least 1, --workers and --repeats not negative.")


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluate every model on every dataset."""
    options = parse(
        EvaluateOptions,
        argv,
        prog="attiqa evaluate",
        description="Agreement of models with human ratings: SROCC, PLCC, KRCC, RMSE, with intervals.",
    )
    device = pick_device(options.device)
    sets = [load_dataset(name, root) for name, root in zip(options.dataset, options.root, strict=True)]
    before = load(options.before, device=device) if options.before else None
    results = []
    for name in options.model:
        model = load(name, device=device)
        if before is not None:
            check_one_backbone(before, model)
        panels = []
        for rated in sets:
            scored = _score(model, rated, options)
            results.append(
                {"model": name, "digest": model.digest, **_evaluate(model, scored, before, options)}
            )
            panels.append((rated.name, scored.scores, scored.rated.mos))
        draw_scatter(options.out / f"scatter-{model.digest[:8]}.png", panels)
    record = {
        "options": as_record(options),
        "versions": {package: version(package) for package in ("attiqa", "torch", "numpy", "scipy")},
        "results": results,
    }
    write_json(options.out / "record.json", record)
    _print(results)
    print(f"written to {options.out}", file=sys.stderr)
    return EXIT_OK


def _score(model: QualityModel, rated: RatedSet, options: EvaluateOptions) -> Scored:
    table = options.out / f"scores-{rated.name}-{model.digest[:8]}-{options.crops}.csv"
    scored = score_rated_set(
        model, rated, table, crops=options.crops, batch=options.batch, workers=options.workers or None
    )
    for what, items in (("missing", rated.missing), ("unreadable", scored.unreadable)):
        if items:
            print(f"{rated.name}: {len(items)} images are {what}, the first: {items[0]}", file=sys.stderr)
    return scored


def _evaluate(
    model: QualityModel, scored: Scored, before: QualityModel | None, options: EvaluateOptions
) -> dict[str, Any]:
    rated = scored.rated
    splits, made_by, digest = _splits(rated, options)
    result = evaluate_scored(scored, splits, repeats=options.repeats, seed=options.seed)
    result |= {"crops": options.crops, "splits_made_by": made_by, "splits_sha256": digest}
    if before is not None:
        cosines = feature_cosine(before, model, rated.paths)
        result["feature_cosine"] = {"before": options.before, "mean": float(np.nanmean(cosines))}
    return result


def _splits(rated: RatedSet, options: EvaluateOptions) -> tuple[list[Split], str, str | None]:
    """The splits, what made them, and their digest; a set too small for any is evaluated as a whole."""
    if options.splits not in SPLIT_WORDS:
        splits, digest = read_splits(options.splits, rated)
        return splits, options.splits, digest
    try:
        splits, made_by = choose_splits(rated, options.splits, count=options.count, seed=options.seed)
        check_test_sides(rated.mos, splits)
    except InputError as error:
        if options.splits != "auto":
            raise
        print(f"{rated.name}: evaluated without splits, for {error}", file=sys.stderr)
        return [], "none", None
    if not splits:
        return [], made_by, None
    return splits, made_by, write_splits(options.out / f"splits-{rated.name}.json", rated, splits, made_by)


def _print(results: list[dict[str, Any]]) -> None:
    """One line a model, dataset and way of counting."""
    width = max(len(result["model"]) for result in results)
    print(
        f"{'model':<{width}}  {'dataset':<12} {'images':>6}  {'over':<10}"
        + "".join(f"{m:>25}" for m in METRICS)
    )
    for result in results:
        start = f"{result['model']:<{width}}  {result['dataset']:<12} {result['images']:>6}  "
        print(f"{start}{'all':<10}" + "".join(f"{_with_interval(result['overall'][m]):>25}" for m in METRICS))
        splits = result["splits"]
        if splits:
            cells = (with_spread(splits, m) for m in METRICS)
            print(f"{start}{len(splits['rows']):>2} splits " + "".join(f"{cell:>25}" for cell in cells))
        if "feature_cosine" in result:
            print(f"{start}feature cosine before and after: {result['feature_cosine']['mean']:.3f}")


def _with_interval(row: dict[str, float]) -> str:
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if "low" in row else ""
    return f"{row['value']:.3f}{interval}"
