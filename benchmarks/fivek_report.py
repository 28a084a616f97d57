"""The report on enhancers: what a run found out, and its tables as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.common import origins, report_failures
from benchmarks.enhancement import Comparison
from benchmarks.paper import EXPERT_WINS
from benchmarks.scorers import ScoreColumn
from benchmarks.tables import markdown, p_value, percent, with_interval

_TITLES = {"psnr": "PSNR dB", "ssim": "SSIM", "ciede2000": "CIEDE2000", "lpips": "LPIPS"}
_DIGITS = {"psnr": 2, "ciede2000": 2}


@dataclass(frozen=True)
class Findings:
    """All that a run found out.

    Attributes:
        comparisons: every picture against every expert's.
        rows: their summary a method and expert.
        gains: method -> metric -> mean gain over the input.
        ceiling: each expert against the others.
        wins: a row for each judge, method and rival.
        columns: the judges' scores.
        missing: judges that could not be had, with the reason.
        failures: scenes that could not be compared, with the reason.
        metrics: names of the metrics of fidelity.
        no_lpips: why LPIPS is not among them, or nothing.
    """

    comparisons: list[Comparison]
    rows: list[dict[str, Any]]
    gains: dict[str, dict[str, dict[str, Any]]]
    ceiling: list[dict[str, Any]]
    wins: list[dict[str, Any]]
    columns: list[ScoreColumn]
    missing: list[tuple[str, str]]
    failures: list[tuple[str, str]]
    metrics: list[str]
    no_lpips: str


def report(input_class: str, found: Findings) -> str:
    """The whole report as Markdown."""
    parts = [
        "## FiveK: fidelity to experts",
        f"Input class: {input_class}. Means over scenes with 95 % bootstrap intervals.",
        _fidelity_table(found.rows, found.metrics),
        *([found.no_lpips] if found.no_lpips else []),
    ]
    if found.gains:
        parts += [
            "Gain over the input, on the scenes of each method:",
            _gain_table(found.gains, found.metrics),
        ]
    if found.ceiling:
        parts += [
            "Agreement of the experts with one another, the ceiling:",
            _fidelity_table(found.ceiling, found.metrics),
        ]
    else:
        parts.append("Agreement of the experts: not measured, fewer than two experts are at hand.")
    if found.wins:
        parts += [
            "Win rate under a judge (ties count for neither):",
            _win_table(found.wins),
            origins(found.columns, found.missing),
        ]
    if found.failures:
        reasons = "\n".join(f"- {reason}" for _, reason in found.failures)
        parts.append(f"Not compared: {len(found.failures)}.\n{reasons}")
    parts += report_failures(found.columns)
    return "\n\n".join(parts)


def _fidelity_table(rows: list[dict[str, Any]], metrics: list[str]) -> str:
    header = ["method", "against", "scenes", *(_TITLES[name] for name in metrics)]
    facts = [[row["method"], row["against"], str(row["scenes"])] for row in rows]
    cells = [_cells(row["metrics"], metrics) for row in rows]
    return markdown(header, [[*one, *other] for one, other in zip(facts, cells, strict=True)])


def _gain_table(gains: dict[str, dict[str, dict[str, Any]]], metrics: list[str]) -> str:
    rows = [[method, str(gain["psnr"]["scenes"]), *_cells(gain, metrics)] for method, gain in gains.items()]
    return markdown(["method", "scenes", *(_TITLES[name] for name in metrics)], rows)


def _cells(values: dict[str, dict[str, Any]], metrics: list[str]) -> list[str]:
    return [
        with_interval(values[name]["mean"], values[name]["interval"], _DIGITS.get(name, 3))
        for name in metrics
    ]


def _win_table(wins: list[dict[str, Any]]) -> str:
    header = ["judge", "method", "against", "won", "of", "ties", "unscored"]
    header += ["rate", "p", "pairs needed", "numbers are"]
    rows = []
    for row in [*wins, EXPERT_WINS]:
        counts = [row["wins"], row["wins"] + row["losses"], row["ties"], row["unscored"]]
        rate = [percent(row["rate"], row["interval"]), p_value(row["p_value"])]
        needed = "-" if row["pairs_needed"] is None else str(row["pairs_needed"])
        names = [row["judge"], row["method"], row["against"]]
        rows.append([*names, *map(str, counts), *rate, needed, row.get("kind", "measured")])
    return markdown(header, rows)
