"""One training run in its folder: learner, checkpoints, held-out table, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from agents.answers import Answer, sequences_at
from agents.begun import BegunPolicy
from agents.checkpoint import load_checkpoint
from agents.evaluation import Bench, Outcome, fallen_judges, share_of, summarise
from agents.kept_slopes import bring_slopes
from agents.playing import STEPS_AN_EPISODE, exploration_spread, looks, make_envs, play
from agents.policy import act, begin, calibrate, is_begun, put_to_work
from agents.policy_file import StoredPolicy, describe_network, save_policy
from agents.report import draw_report, pairs
from agents.runs import CHECKPOINT, METRICS, REPORT, SLOPES, SUMMARY, run_logger, versions
from agents.search import Floats, random_search
from agents.training import HIDDEN, LOG_STD, Watcher, build_model, learn, log_std, resume
from agents.watching import HeldOut
from attiqa.files import write_json
from isp_env.envs.core import Core
from isp_env.envs.tools import ToolsTask
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
        every: renders between two looks at the held-out scenes; 0 for an eighth of `steps`.
        patience: looks without a better gain after which training ends; 0 trains to the last step.
        first: a policy of one look. In a task of one look the learner goes on from it (`agents.policy`);
            in one of several it acts at the first and does not learn (`agents.begun.BegunPolicy`).
        slopes: whether the learner sees how the reward rises at the neutral render; where `first` does, it
            does too.
        about: entries of the policy's card and the summary: reward, eye, preview size.
        continued: the run goes on from its checkpoint, which has what is measured of the frames beforehand.
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
        every: int = 0,
        patience: int = 0,
        first: StoredPolicy | None = None,
        slopes: bool = False,
        about: Mapping[str, Any] | None = None,
        continued: bool = False,
    ) -> None:
        self.run, self.bench, self.about = run, bench, dict(about or {})
        self.task, self.algo, self.steps, self.seed = task, algo, steps, seed
        self.every = every or max(steps // LOOKS, 1)
        self.continued = continued
        slopes = slopes or (first is not None and first.sees_slopes)
        if slopes:
            bring_slopes(run / SLOPES, training, apart=algo == "climb")  # at once, not in the first rollouts
        self.env = make_envs(task, training, num_envs, algo, slopes)
        learns_rewards = algo != "climb"  # it takes them as they are
        if not continued and learns_rewards:
            spread = exploration_spread(self.env, float(np.exp(LOG_STD)), seed)
            self.env.reward_scale = 1.0 / max(spread, 1e-6)
        self.first = first
        self.hidden = first.hidden if first else HIDDEN
        self.model = build_model(
            algo,
            self.env,
            seed=seed,
            steps_an_episode=STEPS_AN_EPISODE[task],
            begun=first is not None,
            hidden=self.hidden,
        )
        policy: Any = self.model.policy
        put_to_work(policy, training)
        self._goes_on = first is not None and STEPS_AN_EPISODE[task] == 1
        # inputs that a stored policy reads stay as it standardises them
        knows_inputs = first is not None and self._goes_on and first.sees_slopes == slopes
        if not continued and not knows_inputs and learns_rewards:
            everywhere = make_envs(task, training, len(training), algo, slopes)
            calibrate(policy, looks(everywhere, first.act if first else None))
        if first and not continued:
            begin(policy, first.policy)
        self._stage = make_envs(task, bench.core, len(bench), algo, slopes)
        self.held_out = HeldOut(bench, self._answer, patience)

    def train(self, *, time_limit: float = 0.0) -> float:
        """Train up to the wanted steps, from the run's checkpoint where it is continued.

        Args:
            time_limit: seconds after which this sitting ends early; 0 for none.

        Returns:
            The wall seconds of training, all sittings together.

        Raises:
            KeyboardInterrupt: Ctrl-C; policy, summary and report show the last checkpoint.
        """
        seconds = self._resume() if self.continued else 0.0
        if self.model.num_timesteps < self.steps:
            watcher = Watcher(
                self.env,
                self.steps,
                self.run / CHECKPOINT,
                self.held_out,
                self.every,
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
        self._save_policy()  # the table may take minutes: what is stopped in it keeps its policy
        return seconds

    def policy(self) -> Outcome:
        """The policy on the held-out scenes, without exploration."""
        return self.bench.at(*self._answer())

    def compare(self, source: FrameSource, short_side: int) -> dict[str, Outcome]:
        """The rows of the held-out table; `source` gives LibRaw's renders of the held-out frames."""
        dimensions, answer_of = self._searched()
        found = random_search(
            self.bench.objective(answer_of), len(self.bench), dimensions, SEARCHED, self.seed
        )
        rows = {
            "neutral": self.bench.neutral(),
            "libraw_auto": self.bench.libraw_auto(source, short_side),
            "random_search": self.bench.at(answer_of(found.actions), found.evaluations),
        }
        if self.first and self._goes_on:
            rows["start"] = self.bench.at(*self._answer(self.first.policy))
        return rows | {"policy": self.policy()}

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
            "warnings": self._warnings(outcomes["policy"]),
            "task": self.task,
            "algo": self.algo,
            "steps": self.model.num_timesteps,
            "finished": self.model.num_timesteps >= self.steps or self.held_out.enough(),
            "stopped_by": "plateau" if self.held_out.enough() else None,
            "judges_in_training": self.held_out.record(),
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
            f"{self.algo} on {self.task}, {steps} renders in {seconds:.0f} s, seed {self.seed}",
            targets,
            self.held_out.spreads,
            self.held_out.sentence,
        )
        return summary

    def _save_policy(self) -> str:
        spaces = (self.env.observation_space, self.env.action_space)
        begun = is_begun(self.model.policy)
        network = describe_network(self.algo, *spaces, self.hidden, log_std(self.env, begun), begun)
        about = {
            "task": self.task,
            "parameters": self.bench.core.space.describe(),
            "steps": self.model.num_timesteps,
            "seed": self.seed,
            "versions": versions(),
            **self.about,
        }
        return save_policy(self.run, self.model.policy, network, about)

    def _answer(self, policy: BasePolicy | None = None) -> tuple[Answer, int]:
        """What a policy, the learner's where none is given, answers on the held-out frames."""
        frames = np.arange(len(self.bench))
        return play(self._stage, frames, lambda seen: act(policy or self.model.policy, seen))

    def _searched(self) -> tuple[int, Callable[[Floats], Answer]]:
        """What a search over this task's answers searches: a box, and what its points mean."""
        task = self._stage.env.task
        if not isinstance(task, ToolsTask):
            return len(self.bench.core.space), self.bench.settings
        tools, horizon = task.tools, task.horizon
        return 1 + 2 * len(tools.names), lambda points: sequences_at(points, tools, horizon)

    def _warnings(self, outcome: Outcome) -> list[str]:
        grown = [self.held_out.sentence] if self.held_out.sentence else []
        return grown + fallen_judges(outcome, self.bench)

    def _resume(self) -> float:
        """Go on from the checkpoint; returns the wall seconds that the run took so far."""
        for torn in self.run.glob(f".{Path(CHECKPOINT).stem}-*"):  # a process was killed while it wrote one
            torn.unlink(missing_ok=True)
        state = resume(self.model, self.env, self.run / CHECKPOINT)
        if self.first and isinstance(self.model.policy, BegunPolicy):  # another may have been named since
            begin(self.model.policy, self.first.policy)
        if "held_out" in state:  # runs of earlier versions have none
            self.held_out.restore(state["held_out"])
        return float(state["seconds"])
