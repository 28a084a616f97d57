"""Trained runs side by side: what each policy makes of the same scenes, under every run's reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from agents.answers import Answer, images_of
from agents.evaluation import Bench, Outcome, color_measures, summarise
from agents.judging import find_judges, judging
from agents.launch import RAWS, make_core
from agents.playing import envs_of, play
from agents.policy_file import load_policy
from agents.report import draw_judges, draw_rewards
from agents.runs import METRICS, SUMMARY, read_metrics
from agents.sheets import as_bytes
from agents.watching import median_judge
from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json
from attiqa.rewards.registry import short_name
from isp_env.sources import RawFolder

SIDE_BY_SIDE = 2  # scenes in a line of the sheet
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Compared:
    """What several runs made of the same scenes.

    Attributes:
        names: of the runs.
        benches: the scenes under each run's reward; all have the same judges.
        outcomes: by the name of a run's reward and of who rendered (a run, or neutral).
        judged: ``(F,)``, the median judge of each run's renders, in spreads between scenes.
        failures: sentences on what could not be read.
    """

    names: list[str]
    benches: dict[str, Bench]
    outcomes: dict[str, dict[str, Outcome]]
    judged: dict[str, np.ndarray]
    failures: list[str]

    def tables(self) -> dict[str, dict[str, Any]]:
        """The held-out table under each run's reward, as JSON values."""
        return {name: summarise(rows, self.benches[name]) for name, rows in self.outcomes.items()}


def compare_runs(
    runs: Sequence[Path],
    inputs: Sequence[Path] = (),
    *,
    weights: Path | None = None,
    named: Sequence[str] = (),
    device: str = "cpu",
) -> Compared:
    """Let the policies of `runs` act on the same scenes.

    Args:
        runs: run folders, at least one.
        inputs: raws, photographs or folders of them; none takes the held-out raws of the first run, if it
            made them itself.
        weights, named: further judges, see `agents.judging.find_judges`. Nothing judges that is in any of the
            rewards.
        device: where renders are made and scored.

    Raises:
        InputError: a run without a policy, two of one name, or nothing to read.
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"runs are told apart by their folder's name; these are {', '.join(names)}.")
    policies = {name: load_policy(run, device) for name, run in zip(names, runs, strict=True)}
    source = RawFolder(list(inputs) or _held_out_raws(runs[0]))
    found = {
        name: find_judges(stored.card["reward"], device, weights, named) for name, stored in policies.items()
    }
    outside = set.intersection(*(set(judges.scores) for judges in found.values()))
    benches: dict[str, Bench] = {}
    answers: dict[str, tuple[Answer, int]] = {}
    for name, stored in policies.items():
        scores = judging(stored.card["reward"], device)
        core = make_core(source, scores, int(stored.card["short_side"]), device)
        judges = {judge: score for judge, score in found[name].scores.items() if judge in outside}
        scenes = [frame.rpartition("-")[0] or frame for frame in core.names] if not inputs else None
        benches[name] = Bench(core, scores.score, judges, scenes, color_measures(core))
        env = envs_of(stored, core)
        answers[name] = play(env, np.arange(len(core)), stored.act)
    outcomes = {
        name: {NEUTRAL: bench.neutral()} | {who: bench.at(*answers[who]) for who in names}
        for name, bench in benches.items()
    }
    judged = {}
    for name, bench in benches.items():
        spreads = {judge: bench.spread(judge) for judge in bench.judges}
        judged[name] = median_judge(outcomes[name][name].judges, spreads)
    failures = [sentence for _, sentence in [*source.failures, *benches[names[0]].core.table.failures]]
    return Compared(names, benches, outcomes, judged, failures)


def _held_out_raws(run: Path) -> list[Path]:
    frames = read_json(run / SUMMARY, "the summary of a finished run")["held_out_scenes"]
    paths = [run / RAWS / f"{name}.dng" for name in frames]
    if not all(path.is_file() for path in paths):
        raise InputError(f"{run} did not make its held-out raws itself; name some with --input.")
    return paths


def draw_runs(path: Path, compared: Compared, runs: Sequence[Path], scenes: int = 6) -> None:
    """Draw the runs' curves, and up to `scenes` scenes neutral and by each policy, as a PNG or JPEG."""
    bench = compared.benches[compared.names[0]]
    count = min(scenes, len(bench))
    chosen = np.unique(np.linspace(0, len(bench) - 1, count).round().astype(np.int64))
    lines = -(-len(chosen) // SIDE_BY_SIDE)
    columns = SIDE_BY_SIDE * (1 + len(runs))
    heights = [2.5 * len(runs), 12.5 / columns * 0.8 * lines]
    figure = Figure(figsize=(12.5, sum(heights)), dpi=96, layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _curves(parts[0], compared.names, runs)
    _pictures(parts[1], compared, chosen, lines, columns)
    quality: dict[str, Any] = {"pil_kwargs": {"quality": 80}} if path.suffix in (".jpg", ".jpeg") else {}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, **quality)


def _curves(part: SubFigure, names: Sequence[str], runs: Sequence[Path]) -> None:
    cells = part.subplots(len(runs), 2, squeeze=False, sharex=True)
    for (left, right), name, run in zip(cells, names, runs, strict=True):
        rows = read_metrics(run / METRICS)
        summary: Mapping[str, Any] = read_json(run / SUMMARY, "the summary of a finished run")
        draw_rewards(left, rows, {})
        left.set_title(f"{name}: its own reward, {short_name(summary['reward'])}", fontsize=9)
        draw_judges(right, rows, summary["judges_in_training"]["spread_between_scenes"])
        right.set_title(f"{name}: judges that the reward does not contain", fontsize=9)
    limits = np.array([cell.get_ylim() for cell in cells[:, 1]])
    for cell in cells[:, 1]:  # one scale, so that runs can be compared
        cell.set_ylim(limits[:, 0].min(), limits[:, 1].max())


def _pictures(part: SubFigure, compared: Compared, chosen: np.ndarray, lines: int, columns: int) -> None:
    cells = part.subplots(lines, columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    bench = compared.benches[compared.names[0]]
    shown = {NEUTRAL: bench.core.render_of(chosen, bench.core.space.neutral_values(len(chosen)))}
    for name in compared.names:
        outcome = compared.outcomes[name][name]
        if outcome.answer is not None:
            shown[name] = images_of(compared.benches[name].core, chosen, outcome.answer.rows(chosen))
    width = columns // SIDE_BY_SIDE
    for place, number in enumerate(chosen.tolist()):
        line, column = divmod(place, SIDE_BY_SIDE)
        for offset, (name, pictures) in enumerate(shown.items()):
            cell = cells[line, column * width + offset]
            cell.imshow(as_bytes(pictures[place]))
            cell.set_title(_caption(compared, name, number), fontsize=7)


def _caption(compared: Compared, name: str, number: int) -> str:
    if name == NEUTRAL:
        return compared.benches[compared.names[0]].core.names[number]
    gain = float(compared.outcomes[name][name].gains[number])
    judged = compared.judged[name]
    return f"{name}: reward {gain:+.3f}" + (f", judges {judged[number]:+.1f}" if len(judged) else "")
