"""What a policy is worth on scenes that it never saw: beside the neutral render, LibRaw's, and searches.

Rewards are gains over the neutral render of the same scene, so neutral is zero by definition and every
interval is already a paired comparison with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from kornia.color import rgb_to_lab

from agents.answers import Answer, Settings, potential_of
from agents.search import Floats, Indices, Objective
from attiqa.rewards.differences import COLOR_TERMS
from attiqa.rewards.protocol import Reward
from isp_env.envs.core import Core
from isp_env.envs.frames import Group, Tensors
from isp_env.frame import FrameSource

RESAMPLES = 10_000
LEAST_GAIN = 1e-6  # what rounding makes of none: a search that found nothing renders neutral again

Measure = Callable[[torch.Tensor, Group], torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """One way of rendering, on each of F frames.

    Attributes:
        gains: ``(F,)``, the reward: potential minus the neutral render's potential.
        scores: ``(F,)``, the plain quality score.
        clipped: ``(F,)``, share of pixels with a channel at 0 or 255.
        evaluations: renders spent on each frame to find it.
        judges: ``(F,)`` each, scores that the reward does not contain, as gains over neutral.
        measures: ``(F,)`` each, whatever else the bench measures; NaN where a frame has none.
        answer: what was set; None where it is nothing that this camera sets.
    """

    gains: Floats
    scores: Floats
    clipped: Floats
    evaluations: int
    judges: dict[str, Floats] = field(default_factory=dict)
    measures: dict[str, Floats] = field(default_factory=dict)
    answer: Answer | None = None


def mean_of(runs: Sequence[Outcome]) -> Outcome:
    """What several runs of one method come to on average, frame by frame, which no answer has."""

    def mean(rows: Iterable[Floats]) -> Floats:
        averaged: Floats = np.mean(list(rows), axis=0)
        return averaged

    first = runs[0]
    return Outcome(
        gains=mean(run.gains for run in runs),
        scores=mean(run.scores for run in runs),
        clipped=mean(run.clipped for run in runs),
        evaluations=first.evaluations,
        judges={name: mean(run.judges[name] for run in runs) for name in first.judges},
        measures={name: mean(run.measures[name] for run in runs) for name in first.measures},
    )


class Bench:
    """A set of frames on which renders are compared.

    Args:
        core: frames, renderer and reward.
        score: the plain quality model, for the table's second column.
        judges: further scores, by name, that the reward does not contain.
        clusters: ``(F,)``, the scene of each frame; None takes each frame for a scene.
        measures: further columns: renders ``(b, 3, H, W)`` and the frames behind them to ``(b,)``.

    Attributes:
        judges: their names.
    """

    def __init__(
        self,
        core: Core,
        score: Reward,
        judges: Mapping[str, Reward] | None = None,
        clusters: Sequence[Hashable] | None = None,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        self.core = core
        self._scorers: dict[str, Reward] = {"score": score, **(judges or {})}
        self.judges = tuple(judges or {})
        self._measures = dict(measures or {})
        self.clusters = np.arange(len(core)) if clusters is None else np.asarray(clusters)
        self._numbers = np.arange(len(core), dtype=np.int64)
        self._neutral_scores = self._measure(core.neutral_images)

    def __len__(self) -> int:
        return len(self.core)

    def gains(self, frames: Indices, actions: Floats) -> Floats:
        """The `agents.search.Objective` of these frames over settings of all parameters."""
        return self.objective(self.settings)(frames, actions)

    def objective(self, answer_of: Callable[[Floats], Answer]) -> Objective:
        """An `agents.search.Objective` over points ``(N, D)`` of which `answer_of` makes answers."""

        def gains(frames: Indices, actions: Floats) -> Floats:
            potential = potential_of(self.core, frames, answer_of(actions))
            return _floats(potential - self.core.neutral_of(frames, ("potential",))["potential"])

        return gains

    def settings(self, actions: Floats) -> Settings:
        """Actions ``(N, P)`` in [-1, 1] as settings of this camera."""
        return Settings(actions, self.core.space, self.core.pipeline)

    def neutral(self) -> Outcome:
        """The camera default."""
        answer = self.settings(np.zeros((len(self), len(self.core.space))))
        return self._outcome(self._neutral_scores, 0, answer)

    def at(self, answer: Answer | Floats, evaluations: int, judged: bool = True) -> Outcome:
        """The renders of an answer.

        Args:
            answer: a row a frame; or actions ``(F, P)`` in [-1, 1].
            evaluations: renders a frame that it took to find it.
            judged: whether the judges look at them too.
        """
        found = self.settings(answer) if isinstance(answer, np.ndarray) else answer
        measured = self._measure(
            lambda group: found.render(group.raw, group.members.cpu().numpy()), judged=judged
        )
        return self._outcome(measured, evaluations, found)

    def judge(self, answer: Answer, frames: Indices) -> dict[str, Floats]:
        """What each judge gives the renders of some frames over the neutral ones: ``(f,)`` each."""
        chosen = answer.rows(frames)

        def run(group: Group) -> Tensors:
            images = chosen.render(group.raw, group.members.cpu().numpy())
            return {
                name: torch.as_tensor(self._scorers[name](images)).to(images.device) for name in self.judges
            }

        with torch.no_grad():
            found = self.core.table.batched(frames, run) if self.judges else {}
        return {name: _floats(found[name] - self._neutral_scores[name][frames]) for name in self.judges}

    def spread(self, judge: str) -> float:
        """The standard deviation of a judge's scores of the neutral renders: its unit."""
        known = _floats(self._neutral_scores[judge])
        known = known[np.isfinite(known)]
        return float(known.std()) if len(known) else 0.0

    def libraw_auto(self, source: FrameSource, short_side: int) -> Outcome:
        """LibRaw's own automatic render of the same files."""
        images = [source.libraw_auto(int(index), short_side) for index in self.core.table.source_indices]
        measured = self._measure(
            lambda group: torch.stack([images[number] for number in group.members.tolist()]).to(
                self.core.device
            )
        )
        return self._outcome(measured, 1, None)

    def interval(self, values: Floats, seed: int = 0) -> tuple[float, float]:
        """95 % interval of the mean of `values` ``(F,)`` over scenes; what is not finite is left out."""
        known = np.isfinite(values)
        return cluster_interval(values[known], self.clusters[known], seed) if known.any() else (0.0, 0.0)

    def _measure(self, render: Callable[[Group], torch.Tensor], judged: bool = True) -> Tensors:
        scorers = {
            name: scorer for name, scorer in self._scorers.items() if judged or name not in self.judges
        }

        def run(group: Group) -> Tensors:
            images = render(group)
            seen = self.core.look(images, group, observe=False)
            further = {name: scorer(images) for name, scorer in scorers.items()}
            further |= {name: measure(images, group) for name, measure in self._measures.items()}
            # some of them work on the CPU whatever they are given
            return seen | {name: torch.as_tensor(rows).to(images.device) for name, rows in further.items()}

        with torch.no_grad():
            return self.core.table.batched(self._numbers, run)

    def _outcome(self, measured: Tensors, evaluations: int, answer: Answer | None) -> Outcome:
        return Outcome(
            gains=_floats(measured["potential"] - self.core.neutral["potential"]),
            scores=_floats(measured["score"]),
            clipped=_floats(measured["clipped_fraction"]),
            evaluations=evaluations,
            judges={
                name: _floats(measured[name] - self._neutral_scores[name])
                for name in self.judges
                if name in measured
            },
            measures={name: _floats(measured[name]) for name in self._measures},
            answer=answer,
        )


def color_measures(core: Core) -> dict[str, Measure]:
    """How renders of the frames of `core` differ in colour from the neutral ones, in CIELAB.

    What the guarded reward compares on areas (`attiqa.rewards.differences`), here pixel by pixel.
    """

    def beside_neutral(compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Measure:
        return lambda images, group: compare(rgb_to_lab(images), rgb_to_lab(core.neutral_images(group)))

    return {name: beside_neutral(compare) for name, compare in COLOR_TERMS.items()}


def cluster_interval(values: Floats, clusters: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean, resampling whole clusters (10,000 times).

    Renders of one scene are not independent; drawing scenes instead of renders keeps the interval honest
    (Field and Welsh: Bootstrapping clustered data, JRSS B 2007).

    Args:
        values: ``(N,)``.
        clusters: ``(N,)``, values of one cluster share a number.
        seed: of the resampling.
    """
    return _ratio_interval(values, np.ones(len(values)), clusters, seed)


def share_interval(part: Outcome, whole: Outcome, bench: Bench) -> tuple[float, float] | None:
    """95 % interval of `share_of` over scenes: both gains of a scene are drawn together.

    None where there are resamples in which `whole` gains nothing.
    """
    gained = np.where(whole.gains > LEAST_GAIN, whole.gains, 0.0)
    interval = _ratio_interval(part.gains, gained, bench.clusters)
    return interval if np.isfinite(interval).all() else None


def _ratio_interval(
    parts: Floats, wholes: Floats, clusters: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of ``sum(parts) / sum(wholes)`` over whole clusters."""
    _, members = np.unique(clusters, return_inverse=True)
    above, below = (np.bincount(members, weights=values) for values in (parts, wholes))
    drawn = np.random.default_rng(seed).integers(0, len(above), (RESAMPLES, len(above)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    finite_ratios = np.isfinite(ratios).all()
    low, high = np.quantile(ratios, [0.025, 0.975]) if finite_ratios else (np.nan, np.nan)
    return float(low), float(high)


def summarise(outcomes: Mapping[str, Outcome], bench: Bench) -> dict[str, dict[str, Any]]:
    """The held-out table as JSON values, one entry a row."""
    return {
        name: {
            "reward": float(outcome.gains.mean()),
            "reward_ci95": list(bench.interval(outcome.gains)),
            "score": float(outcome.scores.mean()),
            "clipped_fraction": float(outcome.clipped.mean()),
            "evaluations": outcome.evaluations,
        }
        | {
            "judges": {
                judge: {"gain": _mean(gains), "gain_ci95": list(bench.interval(gains))}
                for judge, gains in outcome.judges.items()
            },
            "measures": {name: _mean(values) for name, values in outcome.measures.items()},
        }
        for name, outcome in outcomes.items()
    }


def share_of(part: Outcome, whole: Outcome) -> float | None:
    """How much of `whole`'s mean gain `part` reaches; None where `whole` gains nothing."""
    gain = float(whole.gains.mean())
    return float(part.gains.mean()) / gain if gain > 0 else None


def _mean(values: Floats) -> float | None:
    """The mean of what is finite; None where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def finite(value: float) -> float | None:
    """A number that JSON has; None for what it lacks."""
    return float(value) if np.isfinite(value) else None


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The held-out table as text."""
    first = next(iter(rows.values()))
    judges, measures = list(first["judges"]), list(first["measures"])
    head = ["", "reward", "95 % interval", "score", "clipped", "renders", *judges, *measures]
    lines = [head]
    for name, row in rows.items():
        low, high = row["reward_ci95"]
        lines.append(
            [
                name.replace("_", " "),
                f"{row['reward']:+.4f}",
                f"[{low:+.4f}, {high:+.4f}]",
                f"{row['score']:.4f}",
                f"{100 * row['clipped_fraction']:.2f} %",
                str(row["evaluations"]),
                *(_cell(row["judges"][judge]["gain"], "+.4f") for judge in judges),
                *(_cell(row["measures"][measure], ".3f") for measure in measures),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def fallen_judges(outcome: Outcome, bench: Bench) -> list[str]:
    """A sentence for each judge that likes the renders less than neutral while the reward likes them more."""
    if bench.interval(outcome.gains)[0] <= 0:
        return []
    return [
        f"the reward rises by {outcome.gains.mean():+.4f} while the judge {name}, which it does not contain, "
        f"falls by {_mean(gains):+.4f}: the policy may be exploiting the reward; look at the pictures."
        for name, gains in outcome.judges.items()
        if bench.interval(gains)[1] < 0
    ]


def _floats(values: torch.Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float64)
