"""Human-rated generated images: AGIQA-3k and its kin. ``python benchmarks/agiqa.py --data DIR``.

Any scorers side by side against people's ratings: zero-shot (the model as it is) and in-domain (fitted on
some prompts, tested on others), overall, per generator and per style.
"""

from __future__ import annotations

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
from benchmarks.agreement import (
    agreement,
    by_group,
    group_table,
    metric_cells,
    metric_header,
    published_beside,
)
from benchmarks.cards import IN_SAMPLE, ZERO_SHOT, cross_validated, protocol
from benchmarks.common import ScoringOptions, load_scorers, origins, report_failures, score_all
from benchmarks.in_domain import probe_rows
from benchmarks.paper import AGIQA_3K
from benchmarks.records import names_digest, write_items, write_record
from benchmarks.scorers import ScoreColumn
from benchmarks.tables import markdown, number, with_interval

GENERATED = ("agiqa-3k", "avt-ai", "agiqa-1k", "aigiqa-20k", "csv")
PROTOCOLS = ("zero-shot", "in-domain")

NO_DATA = """\
{title} is needed, and --data names no folder that exists.
  It comes from {origin}
  and the folder must hold {layout}.
  Other sets: --dataset {others}.
  Then: python benchmarks/agiqa.py --data DIR --dataset {name}"""

# further human judgements that sets carry; quality scorers are not made for them
_OTHER_TARGETS = ("alignment", "appeal")
_GROUPINGS = ("generator", "style")


@dataclass(frozen=True, kw_only=True)
class AgiqaOptions(ScoringOptions):
    """Options of the benchmark on generated images."""

    data: Path | None = option(None, help="folder of the dataset as distributed", metavar="DIR")
    dataset: str = option("agiqa-3k", help="which dataset lies there", choices=GENERATED)
    protocols: list[str] = option(["zero-shot"], help="which protocols to run", choices=PROTOCOLS)
    splits: int = option(10, help="random splits by prompt, in-domain")


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
    in_domain = _in_domain(rated, options, folder) if "in-domain" in options.protocols else []
    text = _report(rated, results, in_domain, columns, missing, options.view)
    print(text)
    _write(options, folder, rated, columns, results, in_domain, missing, text)
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
        for grouping in (name for name in _GROUPINGS if name in rated.extra):
            labels = rated.extra[grouping]
            results[target][grouping] = {
                column.name: by_group(column, ratings, rated.groups, labels, repeats=repeats, seed=seed)
                for column in columns
            }
    return results


def _in_domain(rated: RatedSet, options: AgiqaOptions, folder: Path) -> list[dict[str, Any]]:
    models = [name for name in options.model if name != "none"]
    return probe_rows(
        rated,
        models,
        device=options.device,
        view=options.view,
        splits=options.splits,
        seed=options.seed,
        folder=folder,
    )


def _report(
    rated: RatedSet,
    results: dict[str, Any],
    in_domain: Sequence[dict[str, Any]],
    columns: Sequence[ScoreColumn],
    missing: Sequence[tuple[str, str]],
    view: str,
) -> str:
    """The whole report as Markdown."""
    title = DATASETS[rated.name].title
    prompts = len(set(rated.groups)) if rated.grouping == "prompt" else None
    counts = f"{len(rated)} images" + (f" of {prompts} prompts" if prompts else "")
    if rated.missing:
        counts += f"; {len(rated.missing)} listed images are not on disk, such as {rated.missing[0]}"
    parts = [
        f"## {title}",
        f"{counts}. Intervals are 95 %, by bootstrap over prompts; "
        "in-domain they are the lowest and highest split around the median.",
        *rated.notes,
    ]
    for target, groupings in results.items():
        note = "" if target == "quality" else " (a quality model is not made for it)"
        parts += [
            f"### Against {target}{note}",
            _overall_table(rated, target, groupings["all"], columns, in_domain, view),
        ]
        notes = _notes(rated, target, groupings["all"], columns)
        parts += ["\n".join(notes)] if notes else []
        for grouping in _GROUPINGS:
            if grouping in groupings:
                parts += [f"SROCC per {grouping} (images), zero-shot:", group_table(groupings[grouping])]
    return "\n\n".join([*parts, origins(columns, missing), *report_failures(columns)])


def _notes(
    rated: RatedSet, target: str, results: dict[str, Any], columns: Sequence[ScoreColumn]
) -> list[str]:
    """What is not defined, and which rows are no test of their model."""
    notes = [f"- {name}: {result['note']}" for name, result in results.items() if result["note"]]
    for column in columns:
        if target == "quality" and protocol(column.card, rated.name) == IN_SAMPLE:
            notes.append(
                f"- {column.name} was fitted to these ratings: its in-sample row, and its rows per group, "
                "show the fit only."
            )
    return notes


def _overall_table(
    rated: RatedSet,
    target: str,
    results: dict[str, Any],
    columns: Sequence[ScoreColumn],
    in_domain: Sequence[dict[str, Any]],
    view: str,
) -> str:
    rows = []
    for column in columns:
        kind = protocol(column.card, rated.name) if target == "quality" else ZERO_SHOT
        rows.append([column.name, column.kind, kind, *metric_cells(results[column.name])])
        unseen = cross_validated(column.card, rated.name, view) if target == "quality" else None
        if unseen is not None:
            cells = [with_interval(unseen[name], unseen[f"{name}_ci95"]) for name in ("srocc", "plcc")]
            label = "out of fold, from its card"
            rows.append([column.name, "measured", label, str(len(rated)), *cells, "-", "-", "-"])
    if target == "quality":
        rows += [[row["scorer"], "measured", row["protocol"], *metric_cells(row)] for row in in_domain]
        if rated.name == "agiqa-3k":
            cells = ["-", number(AGIQA_3K["srocc"]), number(AGIQA_3K["plcc"]), "-", "-", "-"]
            rows.append([f"{AGIQA_3K['scorer']} ({AGIQA_3K['source']})", "reported", "in-domain", *cells])
    return markdown(["scorer", "numbers are", "protocol", *metric_header()], rows)


def _write(
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
    items |= {grouping: rated.extra[grouping].tolist() for grouping in _GROUPINGS if grouping in rated.extra}
    items |= {target: ratings.tolist() for target, ratings in _targets(rated).items()}
    items |= {column.name: column.values.tolist() for column in columns}
    write_items(folder / "items.csv", items)
    groups = rated.extra.get("generator", np.full(len(rated), "")).tolist()
    panels = [(column.name, column.oriented, rated.mos) for column in columns]
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
        "reported": [AGIQA_3K] if rated.name == "agiqa-3k" else [],
        "scorers": [column.describe() for column in columns],
        "left_out": [{"scorer": name, "reason": reason} for name, reason in missing],
        "report": text,
    }
    write_record(folder, "agiqa", ["benchmarks/agiqa.py"], content)


if __name__ == "__main__":
    sys.exit(main(None))
