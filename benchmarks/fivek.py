"""FiveK: an enhancer's pictures against the experts'. ``python benchmarks/fivek.py --data DIR``.

The folder holds ``input/``, one or more of ``expertA/`` ... ``expertE/``, and the methods' pictures in
folders below ``outputs/`` (or ``peer_outputs/``), one file a scene, named alike. ``--outputs NAME=DIR`` adds
others, ``--run RUN`` renders ``input/`` with trained policies first, ``--adaptive-3dlut DIR`` with a peer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.files import file_digest, write_text
from attiqa.options import as_record, option, parse
from benchmarks.adaptive_lut import render
from benchmarks.common import QUICK_NOTE, ScoringOptions, load_scorers, score_all
from benchmarks.enhancement import (
    PLAIN_METRICS,
    Images,
    Metrics,
    compare,
    experts_agreement,
    find_experts,
    gain_over,
    list_scenes,
    summarise,
    win_rate,
)
from benchmarks.exports import export
from benchmarks.fivek_report import Findings, report
from benchmarks.lpips import find_lpips
from benchmarks.paper import EXPERT_WINS
from benchmarks.plots import bars
from benchmarks.records import command_line, names_digest, write_items, write_record
from benchmarks.scorers import ScoreColumn, identity

_POLICY = "policy "  # how names of methods that are policies begin
INPUT_CLASSES = ("lightroom-zeroed", "as-shot-raw", "expert-white-balance", "unstated")

NO_DATA = """\
MIT-Adobe FiveK is needed, and --data names no folder that holds it.
  Get it from https://data.csail.mit.edu/graphics/fivek/ (DNGs, experts A to E as 16-bit TIFF).
  Export all to sRGB at one size and lay it out as DIR/input, DIR/expertA ... DIR/expertE, one file a scene.
  Put a method's pictures into DIR/outputs/METHOD, named as the scenes.
  Then: python benchmarks/fivek.py --data DIR --input-class lightroom-zeroed"""


@dataclass(frozen=True, kw_only=True)
class FivekOptions(ScoringOptions):
    """Options of the FiveK benchmark."""

    data: Path | None = option(None, help="folder with input, experts and outputs", metavar="DIR")
    outputs: list[str] = option([], help="more methods, each as NAME=FOLDER", metavar="NAME=DIR")
    run: list[Path] = option(
        [], help="trained policies' run folders: render the input with them first", metavar="RUN"
    )
    adaptive_3dlut: Path | None = option(
        None,
        help="folder with Image-Adaptive-3DLUT's LUTs.pth and classifier.pth: render the input by them too",
        metavar="DIR",
    )
    experts: Path | None = option(
        None,
        help="where the experts' agreement is measured (default: --data and its experts_thumbnails)",
        metavar="DIR",
    )
    lpips: Path | None = option(
        None, help="folder with LPIPS's two files of weights (default: torch's cache)", metavar="DIR"
    )
    reference: str = option("C", help="the expert whom the judges compare with", choices=tuple("ABCDE"))
    input_class: str = option(
        "unstated", help="what the input is; stated in the record", choices=INPUT_CLASSES
    )


@command
def main(argv: list[str] | None = None) -> int:
    """Compare, print the tables, write the record; returns the exit code."""
    options = parse(FivekOptions, argv, prog="benchmarks/fivek.py", description=__doc__ or "")
    if options.data is None or not options.data.is_dir():
        print(NO_DATA, file=sys.stderr)
        return EXIT_BAD_INPUT
    folder = options.folder("fivek")
    methods = _methods(options, options.data, folder)
    experts = find_experts(options.data)
    if not experts:
        raise InputError(
            f"{options.data} holds no expert; expected folders expertA to expertE or files NAME_A.jpg."
        )
    found = _findings(options, options.data, methods, experts)
    text = report(options.input_class, found) + (f"\n\n{QUICK_NOTE}" if options.quick else "")
    print(text)
    _write(argv, options, folder, text, found)
    return EXIT_OK


def _findings(
    options: FivekOptions, data: Path, methods: dict[str, Images], experts: dict[str, Images]
) -> Findings:
    metrics, no_lpips = _metrics(options)
    results = {
        method: compare(method, images, experts, options.workers, metrics)
        for method, images in methods.items()
    }
    comparisons = [item for items, _ in results.values() for item in items]
    draws = {"repeats": options.repeats, "seed": options.seed}
    gains = {
        method: gain_over(results["input"][0], items, **draws)
        for method, (items, _) in results.items()
        if "input" in results and method != "input"
    }
    columns, missing, wins = _judge(options, methods, experts.get(options.reference, {}))
    return Findings(
        comparisons=comparisons,
        rows=summarise(comparisons, **draws),
        gains=gains,
        ceiling=_agreement(options, data, draws, metrics),
        wins=wins,
        columns=columns,
        missing=missing,
        failures=[failure for _, failures in results.values() for failure in failures],
        metrics=list(metrics),
        no_lpips=no_lpips,
    )


def _metrics(options: FivekOptions) -> tuple[Metrics, str]:
    """The metrics of fidelity, with LPIPS where its weights are at hand, or a sentence on what is not."""
    try:
        return {**PLAIN_METRICS, "lpips": find_lpips(options.lpips)}, ""
    except InputError as error:
        if options.lpips is not None:
            raise  # what was named has to be there
        return PLAIN_METRICS, str(error)


def _methods(options: FivekOptions, data: Path, folder: Path) -> dict[str, Images]:
    """Name -> pictures: the input itself, the methods found below --data, and those that were named."""
    methods: dict[str, Images] = {}
    if (data / "input").is_dir():
        methods["input"] = list_scenes(data / "input")
    for parent in (data / "outputs", data / "peer_outputs"):
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            if path.is_dir():
                methods[path.name] = list_scenes(path)
    for named in options.outputs:
        name, _, place = named.partition("=")
        if not place:
            raise InputError(f"--outputs takes NAME=FOLDER; it got {named!r}.")
        methods[name] = list_scenes(Path(place))
    for run in options.run:
        # export keeps pictures that exist, so another policy needs another folder
        weights = identity(*(file_digest(path) for path in sorted(run.rglob("*.safetensors"))))
        name = f"{_POLICY}{run.name}"
        name = f"{_POLICY}{run}" if name in methods else name
        methods[name] = _render(run, data / "input", folder / f"policy-{weights[:12]}")
    if options.adaptive_3dlut is not None:
        methods["adaptive-3dlut"] = render(options.adaptive_3dlut, list_scenes(data / "input"), folder)
    if not methods:
        raise InputError(f"{data} holds neither input nor outputs, and no --outputs were given.")
    return methods


def _is_policy(method: str) -> bool:
    """Whether `_methods` named it for a run's policy."""
    return method.startswith(_POLICY)


def _render(run: Path, source: Path, out: Path) -> Images:
    export(run, source, out)
    return list_scenes(out)


def _agreement(
    options: FivekOptions, data: Path, draws: dict[str, int], metrics: Metrics
) -> list[dict[str, Any]]:
    places = [options.experts] if options.experts else [data, data / "experts_thumbnails"]
    for place in places:
        experts = find_experts(place) if place.is_dir() else {}
        if len(experts) > 1:
            return experts_agreement(experts, **draws, metrics=metrics)
    return []


def _judge(
    options: FivekOptions, methods: dict[str, Images], reference: Images
) -> tuple[list[ScoreColumn], list[tuple[str, str]], list[dict[str, Any]]]:
    """Wins under each scorer: of each method over reference expert and input, of a policy over peers too."""
    scorers, missing = load_scorers(options)
    everything = methods | {f"expert {options.reference}": reference}
    keys = [(method, scene) for method, images in everything.items() for scene in images]
    paths = [everything[method][scene] for method, scene in keys]
    columns, wins = score_all(scorers, paths, options), []
    for column in columns:
        scores: dict[str, dict[str, float]] = {method: {} for method in everything}
        for (method, scene), value in zip(keys, column.oriented.tolist(), strict=True):
            scores[method][scene] = value
        for method in methods:
            rivals = [f"expert {options.reference}", "input"]
            if _is_policy(method):
                rivals += [peer for peer in methods if peer != "input" and not _is_policy(peer)]
            for rival in rivals:
                if rival in scores and rival != method:
                    result = win_rate(scores[method], scores[rival])
                    wins.append({"judge": column.name, "method": method, "against": rival, **result})
    return columns, missing, wins


def _write(
    argv: Sequence[str] | None, options: FivekOptions, folder: Path, text: str, found: Findings
) -> None:
    """Record, per-scene values, report and picture."""
    write_text(folder / "report.md", text + "\n")
    items: dict[str, list[Any]] = {
        "method": [item.method for item in found.comparisons],
        "scene": [item.scene for item in found.comparisons],
        "expert": [item.expert for item in found.comparisons],
        "resized": [item.resized for item in found.comparisons],
    }
    names = list(found.comparisons[0].values) if found.comparisons else []
    items |= {name: [item.values[name] for item in found.comparisons] for name in names}
    write_items(folder / "items.csv", items)
    if found.rows:
        labels = [f"{row['method']} vs {row['against']}" for row in [*found.rows, *found.ceiling]]
        psnr = [row["metrics"]["psnr"] for row in [*found.rows, *found.ceiling]]
        means = [float("nan") if value["mean"] is None else value["mean"] for value in psnr]
        bars(folder / "psnr.png", labels, means, [value["interval"] for value in psnr], "PSNR in dB")
    write_record(
        folder,
        "fivek",
        command_line("benchmarks/fivek.py", argv),
        {
            "options": as_record(options),
            "scenes_digest": names_digest(sorted({item.scene for item in found.comparisons})),
            "rows": found.rows,
            "gain_over_input": found.gains,
            "experts_agreement": found.ceiling,
            "win_rates": found.wins,
            "reported": [EXPERT_WINS],
            "scorers": [column.describe() for column in found.columns],
            "left_out": [{"scorer": name, "reason": reason} for name, reason in found.missing],
            "no_lpips": found.no_lpips or None,
            "resized": sum(item.resized for item in found.comparisons),
            "not_compared": [reason for _, reason in found.failures],
            "report": text,
        },
    )


if __name__ == "__main__":
    sys.exit(main(None))
