"""Agreement of scorers with human ratings: overall, by generator, by style, with intervals and counts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.datasets.tables import read_csv
from attiqa.errors import InputError
from attiqa.evaluation.agreement import METRICS
from attiqa.evaluation.agreement import agreement as measure
from benchmarks.scorers import ScoreColumn, identity
from benchmarks.tables import markdown, number, with_interval

Vector = NDArray[np.float64]

_TITLES = {
    "srocc": "SROCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC logistic",
    "krcc": "KRCC",
    "rmse": "RMSE logistic",
}
# the logistic has four parameters: through so few points it goes exactly
_LOGISTIC_NEEDS = 5

# which of the metrics that authors publish beside their data fall with quality
_FALLING = frozenset({"niqe", "ilniqe", "brisque", "piqe", "pi"})


def agreement(
    scores: Vector,
    ratings: Vector,
    clusters: Sequence[str] | NDArray[np.str_],
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """`attiqa.evaluation.agreement` for tables: counts what it leaves out, says what is not defined.

    Args:
        scores: ``(N,)``, higher is better; NaN where there is none.
        ratings: ``(N,)`` human ratings; NaN where there is none.
        clusters: ``(N,)`` prompts; the bootstrap draws whole prompts, or images where there is one prompt.
        repeats: bootstrap draws; 0 leaves the intervals out.
        seed: of the bootstrap.

    Returns:
        ``items`` used, ``dropped`` for want of a score or rating, ``metrics`` as name -> value and interval,
        and ``note``: a sentence where something is not defined.
    """
    here = np.isfinite(scores) & np.isfinite(ratings)
    x, y, labels = scores[here], ratings[here], np.asarray(clusters)[here]
    one_cluster = len(set(labels)) == 1
    result: dict[str, Any] = {"items": len(x), "dropped": int((~here).sum()), "note": None}
    rows: dict[str, dict[str, float]] = {}
    try:
        rows = measure(x, y, clusters=None if one_cluster else labels, repeats=repeats, seed=seed)
        if one_cluster and repeats:
            result["note"] = "one prompt only: intervals are over images"
    except InputError as error:
        result["note"] = str(error)
        with contextlib.suppress(InputError):  # the values may be defined where the intervals are not
            rows = measure(x, y, repeats=0)
    if len(x) < _LOGISTIC_NEEDS:
        rows = {name: row for name, row in rows.items() if name not in ("plcc_logistic", "rmse")}
    return result | {"metrics": {name: _cell(rows.get(name, {})) for name in METRICS}}


def _cell(row: Mapping[str, float]) -> dict[str, Any]:
    interval = (row["low"], row["high"]) if "low" in row else None
    return {"value": row.get("value"), "interval": interval}


def by_group(
    column: ScoreColumn,
    ratings: Vector,
    clusters: Sequence[str] | NDArray[np.str_],
    groups: Sequence[str] | NDArray[np.str_],
    *,
    repeats: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """`agreement` inside each group, such as one generator's images."""
    labels, prompts = np.asarray(groups), np.asarray(clusters)
    return {
        str(name): agreement(
            column.oriented[labels == name],
            ratings[labels == name],
            prompts[labels == name],
            repeats=repeats,
            seed=seed,
        )
        for name in np.unique(labels)
    }


def published_scores(path: Path, names: Sequence[str], key: str = "image_key") -> list[ScoreColumn]:
    """Scores that others published for these images: a CSV with one row an image and one column a metric.

    Args:
        path: the table.
        names: ``(N,)`` images in the order wanted; their suffix and folders may differ from the table's.
        key: the column that names the image.

    Returns:
        one column a metric; NaN, counted in `failures`, for images that the table does not have.
    """
    table = read_csv(path, [key])
    row_of = {_stem(name): row for row, name in enumerate(table[key])}
    if len(row_of) < len(table[key]):
        twice = len(table[key]) - len(row_of)
        raise InputError(f"{path} lists {twice} images more than once; keep one row for each.")
    columns = []
    for metric in (column for column in table if column != key):
        values = np.full(len(names), np.nan)
        failures = []
        for index, name in enumerate(names):
            try:
                values[index] = float(table[metric][row_of[_stem(name)]])
            except (KeyError, ValueError):
                failures.append((name, f"{path.name} has no {metric} of {name}."))
        columns.append(
            ScoreColumn(
                name=f"{metric} (published)",
                digest=identity(path.name, metric, *map(repr, values.tolist())),
                origin=f"the authors' own {path.name}",
                lower_is_better=metric.lower() in _FALLING,
                values=values,
                failures=failures,
                kind="published",
            )
        )
    return columns


def published_beside(folder: Path, names: Sequence[str]) -> list[ScoreColumn]:
    """The scores in ``published_peer_scores.csv`` of a dataset's folder, where its authors gave some."""
    path = folder / "published_peer_scores.csv"
    return published_scores(path, names) if path.is_file() else []


def metric_header() -> list[str]:
    """Titles of the cells that `metric_cells` gives."""
    return ["images", "left out", *(_TITLES[name] for name in METRICS)]


def metric_cells(result: Mapping[str, Any]) -> list[str]:
    """Counts and metrics of one `agreement`, for a table."""
    cells = [with_interval(cell["value"], cell["interval"]) for cell in map(result["metrics"].get, METRICS)]
    return [str(result["items"]), str(result["dropped"]), *cells]


def reported_cells(srocc: float, plcc: float | None) -> list[str]:
    """What print gives of the same cells."""
    return ["-", "-", number(srocc), number(plcc), *["-"] * (len(METRICS) - 2)]


def group_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """SROCC of every scorer (rows) in every group (columns, with its number of images).

    Where a scorer has fewer scores than the group has images, its cell says of how many.
    """
    first = next(iter(results.values()))
    totals = {name: result["items"] + result["dropped"] for name, result in first.items()}
    header = ["scorer", *(f"{name} ({total})" for name, total in totals.items())]
    rows = []
    for scorer, groups in results.items():
        cells = []
        for name, result in groups.items():
            srocc = result["metrics"]["srocc"]
            cell = with_interval(srocc["value"], srocc["interval"], 2)
            cells.append(cell if result["items"] == totals[name] else f"{cell} of {result['items']}")
        rows.append([scorer, *cells])
    return markdown(header, rows)


def group_columns(results: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Every metric of every group as columns of a CSV.

    Args:
        results: target -> grouping -> scorer -> group -> `agreement`; the grouping "all" is left out.
    """
    rows = []
    for target, groupings in results.items():
        for grouping, scorers in groupings.items():
            for scorer, groups in scorers.items() if grouping != "all" else ():
                for group, result in groups.items():
                    row = {"target": target, "grouping": grouping, "group": group, "scorer": scorer}
                    row |= {key: result[key] for key in ("items", "dropped")}
                    for name, cell in result["metrics"].items():
                        low, high = cell["interval"] or (None, None)
                        row |= {name: cell["value"], f"{name}_low": low, f"{name}_high": high}
                    rows.append(row)
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _stem(name: str) -> str:
    """``craiyon/p01.webp`` -> ``craiyon/p01``, without tearing ``sd1.5_000``."""
    head, dot, suffix = name.rpartition(".")
    return head if dot and suffix.lower() in {"webp", "png", "jpg", "jpeg", "bmp", "tif", "tiff"} else name
