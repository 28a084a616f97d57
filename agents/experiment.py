"""One training run in its folder: learner, checkpoints, held-out table, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.checkpoint import load_checkpoint
from agents.evaluation import Bench, Outcome, fallen_judges, share_of, summarise
from agents.playing import STEPS_AN_EPISODE, exploration_spread, first_look, make_envs, play
from agents.policy import act, calibrate
from agents.policy_file import describe_network, save_policy
from agents.report import draw_report, pairs
from agents.runs import CHECKPOINT, METRICS, REPORT, SUMMARY, run_logger, versions
from agents.search import random_search
from agents.training import HIDDEN, LOG_STD, Watcher, build_model, learn, resume
from attiqa.files import write_json
from isp_env.envs.core import Core
from isp_env.frame import FrameSource

SEARCHED = 64  # renders an image of the random search in the table
LOOKS = 8  # at the held-out scenes, during training


class Experiment:
    """The parts of one run, built and ready to train.

    Args:
        run: the run's folder, which exists.
        training: the frames to learn from, with renderer and reward.
        bench: the held-out scenes.
        task: a key of `agents.playing.TASKS`.
        algo: a key of `agents.policy.ALGORITHMS`.
        steps: renders (environment steps) in all.
        seed: of everything.
        num_envs: episodes that move together.
        about: entries of the policy's card and the summary: reward, eye, preview size.
    """

    def __init__(
        self,
        run: Path,
        training: Core,
        bench: Bench,
        *,
        task: str = "tune",
        algo: str = "ppo",
        steps: int,
        seed: int = 0,
        num_envs: int = 64,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.run, self.bench, self.about = run, bench, dict(about or {})
        self.task, self.algo, self.steps, self.seed = task, algo, steps, seed
        self.env = make_envs(task, training, num_envs)
        self.env.reward_scale = 1.0 / max(exploration_spread(self.env, float(np.exp(LOG_STD)), seed), 1e-6)
        self.model = build_model(algo, self.env, seed=seed, steps_an_episode=STEPS_AN_EPISODE[task])
        frames = np.arange(len(training))
        calibrate(self.model.policy, first_look(make_envs(task, training, len(training)), frames))
        self._held_out = make_envs(task, bench.core, len(bench))

    def train(self, *, continued: bool = False, time_limit: float = 0.0) -> float:
        """Train up to the wanted steps.

        Args:
            continued: go on from the run's checkpoint.
            time_limit: seconds after which this sitting ends early; 0 for none.

        Returns:
            The wall seconds of training, all sittings together.

        Raises:
            KeyboardInterrupt: Ctrl-C; policy, summary and report show the last checkpoint.
        """
        state = resume(self.model, self.env, self.run / CHECKPOINT) if continued else {"seconds": 0.0}
        seconds = float(state["seconds"])
        if self.model.num_timesteps < self.steps:
            every = max(self.steps // LOOKS, 1)
            watcher = Watcher(
                self.env,
                self.steps,
                self.run / CHECKPOINT,
                self._look_at_held_out,
                every,
                seconds,
                time_limit,
            )
            try:
                learn(self.model, self.steps, watcher, run_logger(self.run, self.model.num_timesteps))
            except KeyboardInterrupt:
                load_checkpoint(self.run / CHECKPOINT, self.model)
                self.conclude({"neutral": self.bench.neutral(), "policy": self.policy()}, watcher.seconds)
                raise
            seconds = watcher.seconds
        return seconds

    def policy(self) -> Outcome:
        """The policy on the held-out scenes, without exploration."""
        frames = np.arange(len(self.bench))
        return self.bench.at(*play(self._held_out, frames, lambda seen: act(self.model.policy, seen)))

    def compare(self, source: FrameSource, short_side: int) -> dict[str, Outcome]:
        """The rows of the held-out table; `source` gives LibRaw's renders of the held-out frames."""
        found = random_search(
            self.bench.gains, len(self.bench), len(self.bench.core.space), SEARCHED, self.seed
        )
        return {
            "neutral": self.bench.neutral(),
            "libraw_auto": self.bench.libraw_auto(source, short_side),
            "random_search": self.bench.at(found.actions, found.evaluations),
            "policy": self.policy(),
        }

    def conclude(self, outcomes: Mapping[str, Outcome], seconds: float) -> dict[str, Any]:
        """Write policy, summary and report; returns the summary.

        Args:
            outcomes: rows of the held-out table; at least ``policy``.
            seconds: wall seconds of training.
        """
        summary = {
            "held_out": summarise(outcomes, self.bench),
            "held_out_scenes": self.bench.core.names,
            "interval": "percentile bootstrap of the mean over scenes, 10,000 resamples, 95 %",
            "warnings": fallen_judges(outcomes["policy"], self.bench),
            "task": self.task,
            "algo": self.algo,
            "steps": self.model.num_timesteps,
            "finished": self.model.num_timesteps >= self.steps,
            "wall_seconds": round(seconds, 1),
            "device": str(self.bench.core.device),
            "seed": self.seed,
            "versions": versions(),
            "policy_digest": self._save_policy(),
            **self.about,
        }
        if "random_search" in outcomes:
            summary["share_of_random_search"] = share_of(outcomes["policy"], outcomes["random_search"])
        write_json(self.run / SUMMARY, summary)
        steps = self.model.num_timesteps
        targets = {
            f"{name.replace('_', ' ')} ({row.evaluations} renders)": float(row.gains.mean())
            for name, row in outcomes.items()
            if name not in ("neutral", "policy")
        }
        draw_report(
            self.run / REPORT,
            self.run / METRICS,
            pairs(self.bench, outcomes["policy"]),
            self.bench.core.space,
            f"{self.algo} on {self.task}, {steps} renders in {seconds:.0f} s, seed {self.seed}",
            targets,
        )
        return summary

    def _save_policy(self) -> str:
        network = describe_network(
            self.algo, self.env.observation_space, self.env.action_space, HIDDEN, LOG_STD
        )
        about = {
            "task": self.task,
            "parameters": self.bench.core.space.describe(),
            "steps": self.model.num_timesteps,
            "seed": self.seed,
            "versions": versions(),
            **self.about,
        }
        return save_policy(self.run, self.model.policy, network, about)

    def _look_at_held_out(self) -> dict[str, float]:
        """Values to log during training: the gain, and the judges' own."""
        outcome = self.policy()
        judges = {f"judge_{name}": float(gains.mean()) for name, gains in outcome.judges.items()}
        return {
            "gain": float(outcome.gains.mean()),
            "score": float(outcome.scores.mean()),
            "clipped_fraction": float(outcome.clipped.mean()),
            **judges,
        }
