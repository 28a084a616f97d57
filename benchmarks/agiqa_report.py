"""The report on rated generated images: tables as Markdown, and what has to be said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attiqa.datasets.rated import RatedSet
from attiqa.datasets.registry import DATASETS
from benchmarks.agreement import group_table, metric_cells, metric_header, reported_cells
from benchmarks.cards import IN_SAMPLE, cross_validated, protocol
from benchmarks.common import origins, report_failures, set_notes
from benchmarks.paper import GENERATED as REPORTED
from benchmarks.scorers import ScoreColumn
from benchmarks.tables import markdown, with_interval

GROUPINGS = ("generator", "style")


def report(
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
    parts = [
        f"## {title}",
        f"{counts}. Intervals are 95 %, by bootstrap over prompts; "
        "in-domain they are the lowest and highest split around the median.",
        *(f"- {note}" for note in set_notes(rated)),
    ]
    for target, groupings in results.items():
        note = "" if target == "quality" else " (a quality model is not made for it)"
        parts += [
            f"### Against {target}{note}",
            _overall_table(rated, target, groupings["all"], columns, in_domain, view),
        ]
        notes = _notes(rated, target, groupings["all"], columns)
        notes += _in_domain_notes(in_domain) if target == "quality" else []
        parts += ["\n".join(notes)] if notes else []
        for grouping in GROUPINGS:
            if grouping in groupings:
                parts += [f"SROCC per {grouping} (images), zero-shot:", group_table(groupings[grouping])]
                parts += ["The other metrics of each group stand in groups.csv."]
    return "\n\n".join([*parts, origins(columns, missing), *report_failures(columns)])


def _notes(
    rated: RatedSet, target: str, results: dict[str, Any], columns: Sequence[ScoreColumn]
) -> list[str]:
    """What is not defined, and which rows are no test of their model."""
    notes = [f"- {name}: {result['note']}" for name, result in results.items() if result["note"]]
    for column in columns:
        if protocol(column.card, rated.name) == IN_SAMPLE:
            notes.append(
                f"- {column.name} was fitted to the quality ratings of these images: its in-sample row, and "
                "its rows per group, show the fit only. In-domain rows start from a new regressor."
            )
    return notes


def _in_domain_notes(in_domain: Sequence[dict[str, Any]]) -> list[str]:
    return [f"- {row['scorer']}, {row['protocol']}: {row['note']}" for row in in_domain if row["note"]]


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
        # one who learnt the quality of these images knows them, whatever is asked
        kind = protocol(column.card, rated.name)
        rows.append([column.name, column.kind, kind, *metric_cells(results[column.name])])
        unseen = cross_validated(column.card, rated.name, view) if target == "quality" else None
        if unseen is not None:
            cells = [with_interval(unseen[name], unseen[f"{name}_ci95"]) for name in ("srocc", "plcc")]
            label = "out of fold, from its card"
            images = "-" if unseen["images"] is None else str(unseen["images"])
            rows.append([column.name, "measured", label, images, "-", *cells, "-", "-", "-"])
    if target == "quality":
        rows += [[row["scorer"], "measured", row["protocol"], *metric_cells(row)] for row in in_domain]
        rows += [
            [f"{row.scorer} ({row.source})", "reported", row.protocol, *reported_cells(row.srocc, row.plcc)]
            for row in REPORTED
            if row.test == rated.name
        ]
    return markdown(["scorer", "numbers are", "protocol", *metric_header()], rows)
