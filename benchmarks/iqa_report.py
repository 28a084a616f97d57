"""The report on the paper's tables: measured rows, reported rows, and what has to be said of the datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attiqa.datasets.rated import RatedSet
from benchmarks.agreement import metric_cells, metric_header, reported_cells
from benchmarks.common import set_notes
from benchmarks.grid import Cell
from benchmarks.in_domain import median_row
from benchmarks.paper import reported_rows
from benchmarks.tables import markdown

TABLES = {
    "main": "Table 2: each dataset on its own splits",
    "cross": "Table 3: fitted on one dataset, tested on another",
    "data-efficient": "Table 4: 10 % and 20 % of the training side",
    "features": "Table 5: cosine of features before and after fine-tuning",
    "linear-probe": "Table 6: frozen backbone, linear fit",
    "ablation": "Table 7: several checkpoints under one protocol",
}


def table_rows(results: Mapping[Cell, dict[str, Any]]) -> list[dict[str, Any]]:
    """Median, lowest and highest split for each row of the table."""
    rows = []
    for key in dict.fromkeys(cell.row for cell in results):
        mine = [
            {name: value for name, value in result.items() if name not in ("predicted", "ratings")}
            for cell, result in results.items()
            if cell.row == key
        ]
        model, train, test, fraction = key
        facts = {"model": model, "train": train, "test": test, "fraction": fraction}
        rows.append(facts | median_row(mine))
    return rows


def report(table: str, done: str, sets: Mapping[str, RatedSet], rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole report as Markdown.

    Args:
        table: key of `TABLES`.
        done: how the rows were measured, and how many cells are finished.
        sets: the datasets by name.
        rows: from `table_rows`.
    """
    header = ["model", "numbers are", "fitted on", "tested on", "share", "splits", *metric_header()]
    lines = []
    for row in rows:
        facts = [row["train"], row["test"], f"{row['fraction']:.0%}", str(len(row["splits"]))]
        lines.append([row["model"], "measured", *facts, *metric_cells(row)])
    printed, remark = reported_rows(table, sets)
    for figure in printed:
        facts = [figure.train, figure.test, f"{figure.fraction:.0%}", "-"]
        lines.append([figure.scorer, "reported", *facts, *reported_cells(figure.srocc, figure.plcc)])
    notes = [f"- {row['model']} on {row['test']}: {row['note']}" for row in rows if row["note"]]
    notes += [f"- {name}: {note}" for name, rated in sets.items() for note in set_notes(rated)]
    parts = [
        f"## {TABLES[table]}",
        f"Measured: {done} Medians over the splits, the lowest and highest in brackets; where there is one "
        "test alone, its 95 % bootstrap interval.",
        markdown(header, lines),
        *(["\n".join(notes)] if notes else []),
        remark,
    ]
    return "\n\n".join(parts)
