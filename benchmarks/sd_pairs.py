"""Preference pairs: how often a scorer agrees with people. ``python benchmarks/sd_pairs.py --data DIR``.

DIR holds ``pairs.csv`` (prompt, image_a, image_b, votes_a, votes_b, ties) and the images that it names.
ImageReward's and Pick-a-Pic's files are read too (--layout); --layout ratings derives pairs from a rated set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.files import write_text
from attiqa.options import as_record, option, parse
from benchmarks.agreement import published_beside
from benchmarks.cards import IN_SAMPLE, cross_validated, protocol
from benchmarks.common import (
    QUICK_NOTE,
    ScoringOptions,
    load_scorers,
    origins,
    report_failures,
    score_all,
    set_notes,
)
from benchmarks.pairs import LAYOUTS, Pair, pairs_from_ratings, read_pairs
from benchmarks.paper import SD_PAIRS
from benchmarks.plots import bars
from benchmarks.preferences import accuracy_row, by_strength, compare_scorers, outcomes
from benchmarks.records import command_line, names_digest, write_items, write_record
from benchmarks.scorers import ScoreColumn
from benchmarks.tables import markdown, p_value, percent

NO_DATA = """\
Preference pairs are needed, and --data names nothing that exists.
  Own pairs: a folder with pairs.csv (prompt,image_a,image_b,votes_a,votes_b,ties) and the images it names;
  ImageReward: its test.json with --layout imagereward --images FOLDER; Pick-a-Pic: --layout pickapic;
  a rated set: --layout ratings --dataset avt-ai --gap 0.5; new pairs: python benchmarks/make_pairs.py.
  Then: python benchmarks/sd_pairs.py --data DIR --model attiqa-mini"""


@dataclass(frozen=True, kw_only=True)
class PairOptions(ScoringOptions):
    """Options of the preference benchmark."""

    data: Path | None = option(None, help="folder or file of pairs, or folder of a rated set", metavar="PATH")
    layout: str = option("pairs", help="how the pairs are stored", choices=(*LAYOUTS, "ratings"))
    images: Path | None = option(None, help="folder of the images (default: that of --data)", metavar="DIR")
    dataset: str = option("avt-ai", help="with --layout ratings: which rated set", choices=tuple(DATASETS))
    gap: float = option(0.5, help="with --layout ratings: least difference in rating")


@command
def main(argv: list[str] | None = None) -> int:
    """Score both images of every pair, print the tables, write the record; returns the exit code."""
    options = parse(PairOptions, argv, prog="benchmarks/sd_pairs.py", description=__doc__ or "")
    if options.data is None or not options.data.exists():
        print(NO_DATA, file=sys.stderr)
        return EXIT_BAD_INPUT
    pairs, paths, columns, notes = _load(options, options.data)
    scorers, missing = load_scorers(options)
    names = list(paths)
    columns = score_all(scorers, list(paths.values()), options) + columns
    if not columns:
        raise InputError("no scorer is left; name one with --model or --peers.")
    results = [outcomes(pairs, dict(zip(names, c.oriented.tolist(), strict=True))) for c in columns]
    rows = [
        {"scorer": column.name, "kind": _kind(options, column)}
        | accuracy_row(pairs, result, repeats=options.repeats, seed=options.seed)
        for column, result in zip(columns, results, strict=True)
    ]
    unseen = _out_of_fold(options, len(pairs), columns)
    strengths = {c.name: by_strength(pairs, result) for c, result in zip(columns, results, strict=True)}
    versus = compare_scorers(columns, results)
    text = _report(pairs, rows, unseen, strengths, versus, columns, missing, notes)
    text += f"\n\n{QUICK_NOTE}" if options.quick else ""
    print(text)
    folder = options.folder("sd-pairs")
    write_text(folder / "report.md", text + "\n")
    _write_items(folder / "items.csv", pairs, columns, results)
    bars(
        folder / "accuracy.png",
        [f"{row['scorer']} ({IN_SAMPLE})" if IN_SAMPLE in row["kind"] else row["scorer"] for row in rows],
        [float("nan") if row["accuracy"] is None else row["accuracy"] for row in rows],
        [row["interval"] for row in rows],
        "pair accuracy",
        (0.5, "chance"),
    )
    write_record(
        folder,
        "sd_pairs",
        command_line("benchmarks/sd_pairs.py", argv),
        {
            "options": as_record(options),
            "protocol": "zero-shot, but for rows that are marked in-sample",
            "pairs": len(pairs),
            "prompts": len({pair.prompt for pair in pairs}),
            "pairs_digest": names_digest(f"{pair.image_a} {pair.image_b}" for pair in pairs),
            "rows": rows,
            "out_of_fold": unseen,
            "by_strength": strengths,
            "paired_tests": versus,
            "reported": [SD_PAIRS],
            "scorers": [column.describe() for column in columns],
            "left_out": [{"scorer": name, "reason": reason} for name, reason in missing],
            "report": text,
        },
    )
    return EXIT_OK


def _load(
    options: PairOptions, data: Path
) -> tuple[list[Pair], dict[str, Path], list[ScoreColumn], list[str]]:
    """The pairs, image name -> file, scores that others published for these images, and what was left out."""
    if options.layout == "ratings":
        rated = load_dataset(options.dataset, data)
        names = [str(name) for name in rated.names]
        prompts = [str(group) for group in rated.groups]
        pairs = pairs_from_ratings(names, prompts, rated.mos.tolist(), options.gap)
        paths = dict(zip(names, rated.paths, strict=True))
        return pairs, paths, published_beside(data, names), set_notes(rated)
    pairs = read_pairs(data, options.layout)
    folder = options.images or (data if data.is_dir() else data.parent)
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.image_a, pair.image_b)))
    return pairs, {name: folder / name for name in names}, [], []


def _kind(options: PairOptions, column: ScoreColumn) -> str:
    """Measured or published; and whether a model was fitted to the very ratings that the pairs come from."""
    fitted = options.layout == "ratings" and protocol(column.card, options.dataset) == IN_SAMPLE
    return f"{column.kind}, {IN_SAMPLE}" if fitted else column.kind


def _out_of_fold(options: PairOptions, pairs: int, columns: Sequence[ScoreColumn]) -> list[dict[str, Any]]:
    """What cards say of the very same pairs, each judged by a fit that had not seen its images."""
    rows = []
    for column in columns:
        if IN_SAMPLE not in _kind(options, column):
            continue
        card = cross_validated(column.card, options.dataset, options.view) or {}
        if card.get("within_group_pairs") == pairs:
            accuracy = card["within_group_pair_accuracy"]
            right = round(accuracy * pairs)
            rows.append({"scorer": column.name, "accuracy": accuracy, "right": right, "wrong": pairs - right})
    return rows


def _report(
    pairs: Sequence[Pair],
    rows: list[dict[str, Any]],
    unseen: list[dict[str, Any]],
    strengths: dict[str, list[dict[str, Any]]],
    versus: list[dict[str, Any]],
    columns: Sequence[ScoreColumn],
    missing: Sequence[tuple[str, str]],
    remarks: Sequence[str],
) -> str:
    """The whole report as Markdown."""
    ties = sum(not pair.decided for pair in pairs)
    prompts = len({pair.prompt for pair in pairs})
    head = f"{len(pairs)} pairs of {prompts} prompts; people tied on {ties}, which count for no scorer."
    parts = ["## Preference pairs", head, _accuracy_table(rows, unseen)]
    notes = [f"- {remark}" for remark in remarks]
    notes += [f"- {row['scorer']}: {row['note']}" for row in rows if row["note"]]
    parts += ["\n".join(notes)] if notes else []
    parts += ["Accuracy by strength of agreement:", _strength_table(strengths)]
    if versus:
        parts += ["Scorer against scorer on the same pairs (McNemar, exact):", _versus_table(versus)]
    return "\n\n".join([*parts, origins(columns, missing), *report_failures(columns)])


def _accuracy_table(rows: list[dict[str, Any]], unseen: list[dict[str, Any]]) -> str:
    header = ["scorer", "numbers are", "accuracy", "right", "wrong", "scorer ties", "unscored", "sign test p"]
    cells = [
        [row["scorer"], row["kind"], percent(row["accuracy"], row["interval"])]
        + [str(row[key]) for key in ("right", "wrong", "scorer_ties", "unscored")]
        + [p_value(row["p_value"])]
        for row in rows
    ]
    kind = "measured, out of fold, from its card"
    cells += [
        [row["scorer"], kind, percent(row["accuracy"]), str(row["right"]), str(row["wrong"]), "-", "-", "-"]
        for row in unseen
    ]
    reported = f"reported, {SD_PAIRS['pairs']} other pairs"
    paper = [SD_PAIRS["scorer"], reported, percent(SD_PAIRS["accuracy"], SD_PAIRS["interval"])]
    return markdown(header, [*cells, [*paper, "142", "58", "-", "-", p_value(SD_PAIRS["p_value"])]])


def _strength_table(strengths: dict[str, list[dict[str, Any]]]) -> str:
    bands = next(iter(strengths.values()))
    header = ["scorer", *(f"({band['above']:.2g}, {band['up_to']:.2g}]" for band in bands)]
    rows = [
        [scorer, *(f"{percent(band['accuracy'])} of {band['pairs']}" for band in found)]
        for scorer, found in strengths.items()
    ]
    return markdown(header, rows)


def _versus_table(versus: list[dict[str, Any]]) -> str:
    header = ["first", "second", "pairs", "first better", "second better", "p"]
    keys = ("pairs", "first_better", "second_better")
    return markdown(
        header,
        [
            [row["first"], row["second"], *(str(row[key]) for key in keys), p_value(row["p_value"])]
            for row in versus
        ],
    )


def _write_items(
    path: Path, pairs: Sequence[Pair], columns: Sequence[ScoreColumn], results: Sequence[Any]
) -> None:
    """One row a pair: who won, and whether each scorer said so."""
    items: dict[str, Sequence[Any]] = {
        "prompt": [pair.prompt for pair in pairs],
        "image_a": [pair.image_a for pair in pairs],
        "image_b": [pair.image_b for pair in pairs],
        "votes_a": [pair.votes_a for pair in pairs],
        "votes_b": [pair.votes_b for pair in pairs],
        "ties": [pair.ties for pair in pairs],
        "strength": [pair.strength for pair in pairs],
    }
    items |= {column.name: result.tolist() for column, result in zip(columns, results, strict=True)}
    write_items(path, items)


if __name__ == "__main__":
    sys.exit(main(None))
