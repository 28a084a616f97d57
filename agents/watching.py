"""What a run's policy is worth on the held-out scenes while it learns, and what that says.

Two rules read it. *Plateau*: the gain has not risen above its best for so many evaluations. *Reward against
judges*: since the evaluation at which the judges stood highest, the reward rose and the judges fell, both so
that the 95 % interval over raws leaves out zero, and the judges by more than `FALL`. A reward that is
maximised for long parts from what it stands for (Gao, Schulman, Hilton: Scaling laws for reward model
overoptimization, ICML 2023); judges that it does not contain are how a run can notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agents.answers import Answer
from agents.evaluation import Bench, cluster_interval
from agents.search import Floats

HELD_OUT_GAIN = "evaluation/gain"
JUDGE = "evaluation/judge_"  # and its name: the mean gain over the neutral render, in the judge's own units
JUDGES = "evaluation/judges"  # the median judge, see `median_judge`
AGAINST = "evaluation/reward_against_judges"  # 1 where the rule holds

MOST_JUDGED = 24  # frames that judges see at an evaluation during training; NIQE takes as long as a render
FALL = 0.1  # of the spread of a judge's scores between scenes; our choice
RULE = (
    "since the evaluation at which the judges stood highest, the reward rose and the median judge fell, each "
    f"with a 95 % interval over raws that leaves out zero, the judge by more than {FALL} of its spread"
)


def median_judge(gains: Mapping[str, Floats], spreads: Mapping[str, float]) -> Floats:
    """The median over judges of their gains ``(f,)``, each divided by its spread: ``(f,)``.

    Judges have units of their own, and one of them may be as wrong as the reward.
    """
    rows = [values / spreads[name] for name, values in gains.items() if spreads[name] > 0]
    return np.nan_to_num(np.nanmedian(np.stack(rows), axis=0)) if rows else np.zeros(0)


class HeldOut:
    """The held-out scenes through a run.

    Args:
        bench: the scenes, and the judges.
        answer: lets the policy act on all of them; what it answers, and the renders that this took.
        patience: evaluations without a better gain after which `enough` says so; 0 for never.

    Attributes:
        sentence: what the rule of reward against judges says of the last evaluation; None for nothing.
        against: steps of the evaluations at which it held.
        last: step of the last evaluation; -1 before the first.
    """

    def __init__(self, bench: Bench, answer: Callable[[], tuple[Answer, int]], patience: int = 0) -> None:
        self.bench, self._answer, self.patience = bench, answer, patience
        count = min(len(bench), MOST_JUDGED)
        self._frames = np.unique(np.linspace(0, len(bench) - 1, count).round().astype(np.int64))
        self.spreads = {name: bench.spread(name) for name in bench.judges}
        self.sentence: str | None = None
        self.against: list[int] = []
        self.last = -1
        self._best, self._since = -float("inf"), 0
        self._peak: dict[str, Any] | None = None

    def look(self, step: int) -> dict[str, float]:
        """Evaluate the policy after `step` renders; returns values to log, by their names in metrics.csv."""
        self.last = step
        answer, renders = self._answer()
        all_judged = len(self._frames) == len(self.bench)
        outcome = self.bench.at(answer, renders, judged=all_judged)
        gain = float(outcome.gains.mean())
        self._since = 0 if gain > self._best else self._since + 1
        self._best = max(self._best, gain)
        values = {
            HELD_OUT_GAIN: gain,
            "evaluation/score": float(outcome.scores.mean()),
            "evaluation/clipped_fraction": float(outcome.clipped.mean()),
        }
        if self.bench.judges:
            judged = outcome.judges if all_judged else self.bench.judge(answer, self._frames)
            values |= self._judge(step, judged, outcome.gains)
        return values

    def enough(self) -> bool:
        """Whether the gain stands on a plateau."""
        return 0 < self.patience <= self._since

    def state(self) -> dict[str, Any]:
        """All that later evaluations are compared with, as JSON values."""
        return {
            "last": self.last,
            "best": self._best if np.isfinite(self._best) else None,
            "since": self._since,
            "peak": self._peak,
            "sentence": self.sentence,
            "against": self.against,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.last = int(state["last"])
        self._best = -float("inf") if state["best"] is None else float(state["best"])
        self._since, self._peak = int(state["since"]), state["peak"]
        self.sentence, self.against = state["sentence"], list(state["against"])

    def record(self) -> dict[str, Any]:
        """What a summary says of the judges, as JSON values."""
        return {
            "names": list(self.bench.judges),
            "rule": RULE,
            "frames": len(self._frames),
            "spread_between_scenes": self.spreads,
            "held_at_steps": self.against,
        }

    def _judge(self, step: int, judged: Mapping[str, Floats], gains: Floats) -> dict[str, float]:
        median, rewards = median_judge(judged, self.spreads), gains[self._frames]
        self.sentence = self._compare(step, rewards, median)
        if self.sentence:
            self.against.append(step)
        if len(median) and (self._peak is None or median.mean() > np.mean(self._peak["judges"])):
            self._peak = {"step": step, "rewards": rewards.tolist(), "judges": median.tolist()}
        means = {JUDGE + name: float(np.nanmean(values)) for name, values in judged.items()}
        return means | {
            JUDGES: float(median.mean()) if len(median) else 0.0,
            AGAINST: float(self.sentence is not None),
        }

    def _compare(self, step: int, rewards: Floats, judges: Floats) -> str | None:
        if self._peak is None or len(judges) < 2:
            return None
        # over raws: this warns of what happens here, and three scenes would have to agree to the last one
        raws = np.arange(len(judges))
        rise = rewards - np.asarray(self._peak["rewards"])
        fall = judges - np.asarray(self._peak["judges"])
        rose = cluster_interval(rise, raws)[0] > 0
        fell = cluster_interval(fall, raws)[1] < 0 and fall.mean() < -FALL
        if not (rose and fell):
            return None
        since = f"since render {self._peak['step']}" if self._peak["step"] else "since the start"
        return (
            f"{since} the reward rose by {rise.mean():.4f} on the held-out scenes, and the judges that it "
            f"does not contain ({_named(self.bench.judges)}) fell by {-fall.mean():.2f} of their spread "
            "between scenes: the policy may be exploiting the reward; look at report.png."
        )


def _named(judges: Sequence[str]) -> str:
    return judges[0] if len(judges) == 1 else f"the median of {', '.join(judges)}"
