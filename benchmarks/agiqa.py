"""Human-rated generated images: AGIQA-3k and its kin. ``python benchmarks/agiqa.py --data DIR``.

Any scorers side by side against people's ratings: zero-shot (the model as it is) and in-domain (fitted on
some prompts, tested on others), overall, per generator and per style.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
from numpy.typing import NDArray

from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.evaluation.plots import draw_scatter
from attiqa.files import write_text
from attiqa.options import as_record, option, parse
from benchmarks.agiqa_report import GROUPINGS, report
from benchmarks.agreement import agreement, by_group, group_columns, published_beside
from benchmarks.cards import IN_SAMPLE, protocol
from benchmarks.common import QUICK_NOTE, ScoringOptions, load_scorers, score_all
from benchmarks.fits import FITS, FineTune, Fit, LinearProbe
from benchmarks.in_domain import in_domain_row
from benchmarks.paper import GENERATED as REPORTED
from benchmarks.records import command_line, names_digest, write_items, write_record
from benchmarks.scorers import ScoreColumn

GENERATED = ("agiqa-3k", "avt-ai", "agiqa-1k", "aigiqa-20k", "csv")
PROTOCOLS = ("zero-shot", "in-domain")
QUICK_SPLITS, QUICK_EPOCHS = 2, 2

NO_DATA = """\
{title} is needed, and --data names no folder that exists.
  It comes from {origin}
  and the folder must hold {layout}.
  Other sets: --dataset {others}.
  Then: python benchmarks/agiqa.py --data DIR --dataset {name}"""

# further human judgements that sets carry; quality scorers are not made for them
_OTHER_TARGETS = ("alignment", "appeal")


@dataclass(frozen=True, kw_only=True)
class AgiqaOptions(ScoringOptions):
    """Options of the benchmark on generated images."""

    data: Path | None = option(None, help="folder of the dataset as distributed", metavar="DIR")
    dataset: str = option("agiqa-3k", help="which dataset lies there", choices=GENERATED)
    protocols: list[str] = option(["zero-shot"], help="which protocols to run", choices=PROTOCOLS)
    in_domain: list[str] = option(
        [],
        help="how a model is fitted in-domain: finetune (the paper's protocol; needs hours without a GPU), "
        "linear-probe (frozen features, ridge regression: the quick form); adds the protocol in-domain",
        choices=FITS,
    )
    splits: int = option(10, help="random splits by prompt, in-domain")
    epochs: int = option(100, help="of fine-tuning")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.splits, self.epochs) < 1:
            raise InputError(f"--splits and --epochs are 1 or more; these are {self.splits}, {self.epochs}.")
        if self.quick:
            object.__setattr__(self, "splits", min(self.splits, QUICK_SPLITS))
            object.__setattr__(self, "epochs", min(self.epochs, QUICK_EPOCHS))

    @property
    def fits(self) -> list[str]:
        """The in-domain fits that were asked for; fine-tuning where only the protocol was named."""
        return self.in_domain or (["finetune"] if "in-domain" in self.protocols else [])


@command
def main(argv: list[str] | None = None) -> int:
    """Score, compare with the ratings, print the tables, write the record; returns the exit code."""
    options = parse(AgiqaOptions, argv, prog="benchmarks/agiqa.py", description=__doc__ or "")
    if options.data is None or not options.data.exists():
        dataset = DATASETS[options.dataset]
        others = " | ".join(name for name in GENERATED if name != options.dataset)
        facts = {"title": dataset.title, "origin": dataset.origin, "layout": dataset.layout}
        print(NO_DATA.format(**facts, others=others, name=options.dataset), file=sys.stderr)
        return EXIT_BAD_INPUT
    rated = load_dataset(options.dataset, options.data)
    scorers, missing = load_scorers(options)
    names = [str(name) for name in rated.names]
    columns = score_all(scorers, rated.paths, options) + published_beside(options.data, names)
    if not columns:
        raise InputError("no scorer is left; name one with --model or --peers.")
    folder = options.folder(f"agiqa-{options.dataset}")
    results = _zero_shot(rated, columns, options)
    in_domain = _in_domain(rated, options, folder, missing)
    text = report(rated, results, in_domain, columns, missing, options.view)
    text += f"\n\n{QUICK_NOTE}" if options.quick else ""
    print(text)
    _write(argv, options, folder, rated, columns, results, in_domain, missing, text)
    return EXIT_OK


def _targets(rated: RatedSet) -> dict[str, NDArray[np.float64]]:
    """Quality first, then whatever else people rated."""
    others = {name: rated.extra[name].astype(np.float64) for name in _OTHER_TARGETS if name in rated.extra}
    return {"quality": rated.mos, **others}


def _zero_shot(rated: RatedSet, columns: Sequence[ScoreColumn], options: AgiqaOptions) -> dict[str, Any]:
    """target -> grouping ("all", "generator", "style") -> scorer -> results."""
    repeats, seed = options.repeats, options.seed
    results: dict[str, Any] = {}
    for target, ratings in _targets(rated).items():
        whole = {
            column.name: agreement(column.oriented, ratings, rated.groups, repeats=repeats, seed=seed)
            for column in columns
        }
        results[target] = {"all": whole}
        for grouping in (name for name in GROUPINGS if name in rated.extra):
            labels = rated.extra[grouping]
            results[target][grouping] = {
                column.name: by_group(column, ratings, rated.groups, labels, repeats=repeats, seed=seed)
                for column in columns
            }
    return results


def _in_domain(
    rated: RatedSet, options: AgiqaOptions, folder: Path, missing: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A row for each fit and model; what cannot be fitted joins `missing` with its sentence."""
    absent = {name for name, _ in missing}
    models = [name for name in options.model if name != "none" and name not in absent]
    cache = options.cache / "fits"
    fits: dict[str, Fit] = {
        "finetune": FineTune(options.device, cache, epochs=options.epochs, seed=options.seed),
        "linear-probe": LinearProbe(options.device, options.view, cache),
    }
    rows = []
    for fit, model in itertools.product([fits[name] for name in options.fits], models):
        minutes = fit.seconds(model, rated, rated, 0.8) * (1 if fit.shared else options.splits) / 60
        print(
            f"{model}, {fit.label}, {options.splits} splits: about {minutes:.1f} minutes on "
            f"{options.device}, less what an earlier run left",
            file=sys.stderr,
        )
        try:
            rows.append(
                in_domain_row(rated, model, fit, splits=options.splits, seed=options.seed, folder=folder)
            )
        except InputError as error:
            missing.append((f"{model}, in-domain, {fit.label}", str(error)))
    return rows


def _write(
    argv: Sequence[str] | None,
    options: AgiqaOptions,
    folder: Path,
    rated: RatedSet,
    columns: Sequence[ScoreColumn],
    results: dict[str, Any],
    in_domain: Sequence[dict[str, Any]],
    missing: Sequence[tuple[str, str]],
    text: str,
) -> None:
    """Report, per-image values, pictures and record."""
    names = [str(name) for name in rated.names]
    write_text(folder / "report.md", text + "\n")
    items: dict[str, Sequence[Any]] = {"name": names, "prompt": rated.groups.tolist()}
    items |= {grouping: rated.extra[grouping].tolist() for grouping in GROUPINGS if grouping in rated.extra}
    items |= {target: ratings.tolist() for target, ratings in _targets(rated).items()}
    items |= {column.name: column.values.tolist() for column in columns}
    write_items(folder / "items.csv", items)
    write_items(folder / "groups.csv", group_columns(results))
    groups = rated.extra.get("generator", np.full(len(rated), "")).tolist()
    panels = [(_panel_title(column, rated.name), column.oriented, rated.mos) for column in columns]
    draw_scatter(folder / "scatter.png", panels, groups=groups, rating_name="quality, human rating")
    content = {
        "options": as_record(options),
        "dataset": rated.name,
        "images": len(rated),
        "images_digest": names_digest(names),
        "not_on_disk": list(rated.missing),
        "notes": list(rated.notes),
        "zero_shot": results,
        "in_domain": list(in_domain),
        "reported": [row.describe() for row in REPORTED if row.test == rated.name],
        "scorers": [column.describe() for column in columns],
        "left_out": [{"scorer": name, "reason": reason} for name, reason in missing],
        "report": text,
    }
    write_record(folder, "agiqa", command_line("benchmarks/agiqa.py", argv), content)


def _panel_title(column: ScoreColumn, dataset: str) -> str:
    """The scorer, how its axis is turned, and whether its points show a fit instead of a test."""
    negated = ", negated" if column.lower_is_better else ""
    fitted = f" ({IN_SAMPLE})" if protocol(column.card, dataset) == IN_SAMPLE else ""
    return column.name + fitted + negated


if __name__ == "__main__":
    sys.exit(main(None))
