"""Training: SB3's algorithms with the recipes that won our trials (TRIALS.md), watched and checkpointed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.checkpoint import load_checkpoint, read_state, save_checkpoint
from agents.dpg import ManyScales
from agents.mirrored import are_paired
from agents.policy import (
    ALGORITHMS,
    check_action_space,
    policy_arguments,
    policy_class,
    start_at_identity,
)
from agents.runs import STEP
from agents.vec_env import IspVecEnv
from agents.watching import HeldOut
from attiqa.errors import InputError
from attiqa.progress import progress_bar
from isp_env.envs.task import SLOPE

HIDDEN = [64, 64]
LOG_STD = -1.75
ROLLOUT = 128  # environment steps between two updates of an on-policy algorithm, over all slots
# in mirrored pairs, which need not stand out against what exploration costs: nearer, and as often as may be
PAIRED_LOG_STD = -2.3
PAIRED_ROLLOUT = 64
# going on from a stored policy, in smaller and surer steps: or what it knows of other scenes is lost
BEGUN_LOG_STD = -2.3
BEGUN_ROLLOUT = 512
BEGUN_PATIENCE = 2048  # renders around its answers, in which critics learn what is new; see TRIALS.md
DEVIATIONS = (0.05, 0.4)  # where bad renders teach critics and do not push a policy, exploration may go wide
CHECKPOINT_SECONDS = 30.0  # for algorithms whose state holds a replay memory

GAIN = "rollout/gain_mean"


class TrainingStoppedError(Exception):
    """The run ends here, at a state that a checkpoint holds."""


def build_model(
    algo: str,
    env: IspVecEnv,
    *,
    seed: int,
    device: str = "cpu",
    steps_an_episode: int = 1,
    begun: bool = False,
    hidden: Sequence[int] = HIDDEN,
) -> BaseAlgorithm:
    """An SB3 algorithm over `env` that renders neutral until its first update.

    Args:
        algo: a key of `ALGORITHMS`.
        env: the environment.
        seed: of networks, exploration and the environment.
        device: where the networks live.
        steps_an_episode: the longest episode; a rollout holds at least one whole episode a slot.
        begun: whether a stored policy comes first: where an episode has several looks, dpg's and climb's act
            after its own; where it has one, dpg's and PPO's go on from it.
        hidden: sizes of the hidden layers of actors, which are those of the stored policy where one is.
    """
    check_action_space(algo, env.action_space)
    paired = are_paired(env)
    rollout = BEGUN_ROLLOUT if begun else PAIRED_ROLLOUT if paired else ROLLOUT
    steps = max(rollout // env.num_envs, steps_an_episode, 1)
    if algo == "climb":  # learns from whole episodes
        steps = steps_an_episode
    batches = 4 if begun else 1 if paired else 2  # in one, Adam takes both sides of a pair in one step
    arguments = _recipe(algo, steps, env.num_envs, env.action_space.shape or (), batches, begun)
    goes_on = algo == "dpg" and begun and steps_an_episode == 1  # then no other actor comes first
    if goes_on:
        arguments["patience"] = BEGUN_PATIENCE
    sees: Any = env.observation_space
    deviation = log_std(env, begun)
    model = ALGORITHMS[algo](
        policy_class(algo, begun),
        env,
        policy_kwargs=policy_arguments(
            algo, list(hidden), deviation, begun=begun and not goes_on, slopes=SLOPE in sees.spaces
        ),
        seed=seed,
        device=device,
        **arguments,
    )
    start_at_identity(model.policy, deviation)
    return model


def log_std(env: IspVecEnv, begun: bool) -> float:
    """The logarithm of the first deviation of a Gaussian policy, in units of half the action range."""
    if begun:
        return BEGUN_LOG_STD
    return PAIRED_LOG_STD if are_paired(env) else LOG_STD


def _recipe(
    algo: str, steps: int, slots: int, action_shape: tuple[int, ...], batches: int, begun: bool
) -> dict[str, Any]:
    """Keyword arguments of the SB3 algorithm; PPO divides a rollout into `batches`.

    Episodes are short and rewards are potential differences, so nothing is discounted.
    """
    undiscounted = {"gamma": 1.0}
    if algo == "ppo":
        return undiscounted | {
            "n_steps": steps,
            "batch_size": max(steps * slots // batches, 2),
            "n_epochs": 8,
            "learning_rate": linear_to(1e-4, 1e-5) if begun else linear_to(1e-3, 1e-4),
            "gae_lambda": 0.95,
            "clip_range": 0.2,
            "ent_coef": 0.0,
            "vf_coef": 0.5,
            "max_grad_norm": 0.5,
        }
    if algo == "a2c":
        return undiscounted | {
            "n_steps": steps,
            "learning_rate": linear_to(2e-3, 2e-4),
            "use_rms_prop": False,
        }
    if algo == "dpg":
        return {
            "buffer_size": 500_000,  # every render of a long run, at half a kilobyte each; taken as they come
            "learning_starts": 0,  # before it SB3 would draw actions from the corners of the box
            "batch_size": 256,
            "train_freq": 1,
            "gradient_steps": max(3 * slots // 8, 1),
            "learning_rate": linear_to(1e-3, 1e-4),
            "action_noise": ManyScales(int(np.prod(action_shape)), *DEVIATIONS),
        }
    if algo == "climb":
        return {
            "buffer_size": 20_000,  # episodes
            "learning_starts": 0,
            "batch_size": 256,
            "train_freq": steps,
            "gradient_steps": slots,
            "learning_rate": linear_to(0.05, 0.005),
        }
    off_policy = undiscounted | {"buffer_size": 50_000, "learning_starts": 2 * slots, "batch_size": 256}
    updates = {"train_freq": 1, "gradient_steps": max(slots // 2, 1), "learning_rate": 1e-3}
    if algo == "td3":
        noise = NormalActionNoise(np.zeros(action_shape), np.full(action_shape, np.exp(LOG_STD)))
        return off_policy | updates | {"action_noise": noise}
    if algo == "dqn":  # SB3 copies the target network every 10,000 steps: more than a default run has
        return off_policy | updates | {"target_update_interval": 512, "exploration_fraction": 0.5}
    return off_policy | updates


def linear_to(start: float, end: float) -> Callable[[float], float]:
    """A learning rate that falls linearly over the run; SB3 calls it with the part that remains."""
    return lambda remaining: end + (start - end) * remaining


class Watcher(BaseCallback):
    """Progress bar, gain of each rollout, periodic evaluation, checkpoints between updates.

    Args:
        env: the training environment.
        total: steps at which the run ends.
        checkpoint: where the state goes.
        held_out: looks at the policy every `every` steps and at both ends; ends training where it has enough.
        every: steps between two evaluations.
        seconds_before: wall seconds that earlier sittings of this run took.
        time_limit: seconds of this sitting after which training stops early; 0 for none.
    """

    def __init__(
        self,
        env: IspVecEnv,
        total: int,
        checkpoint: Path,
        held_out: HeldOut,
        every: int,
        seconds_before: float = 0.0,
        time_limit: float = 0.0,
    ) -> None:
        super().__init__()
        self.env = env
        self.total, self.checkpoint = total, checkpoint
        self.held_out, self.every = held_out, max(every, 1)
        self.seconds_before, self.time_limit = seconds_before, time_limit
        self._rewards: list[np.ndarray] = []
        self._saved_at = -float("inf")
        self._gain = 0.0

    @property
    def seconds(self) -> float:
        """Wall seconds of training, all sittings together."""
        return self.seconds_before + time.monotonic() - self._started

    def _on_training_start(self) -> None:
        self._started = time.monotonic()
        # the evaluation that is due at a step belongs to the checkpoint of that step
        self._evaluated = self.held_out.last // self.every
        self._bar = progress_bar(
            total=self.total, initial=self.model.num_timesteps, desc="training", unit="render"
        )

    def _on_rollout_start(self) -> None:
        """Between two updates: the only moment at which the state is whole."""
        in_time = not self.time_limit or time.monotonic() - self._started < self.time_limit
        waited = time.monotonic() - self._saved_at
        self._log()
        over = self.held_out.enough() or not in_time
        if isinstance(self.model, OnPolicyAlgorithm) or waited > CHECKPOINT_SECONDS or over:
            self.save()
        if over:
            raise TrainingStoppedError

    def _on_step(self) -> bool:
        self._rewards.append(np.asarray(self.locals["rewards"]) / self.env.reward_scale)
        self._bar.update(self.model.num_timesteps - self._bar.n)
        return True

    def _on_rollout_end(self) -> None:
        rewards = np.concatenate(self._rewards)
        self._rewards.clear()
        self._gain = float(rewards.mean())
        self.logger.record(GAIN, self._gain)
        self.logger.record("rollout/gain_std", float(rewards.std()))
        self._bar.set_postfix(gain=f"{self._gain:+.4f}", refresh=False)

    def _on_training_end(self) -> None:
        self._log(last=True)
        self.save()

    def save(self) -> None:
        """Write the checkpoint; the environment's state goes with it."""
        save_checkpoint(
            self.checkpoint,
            self.model,
            {
                "seconds": self.seconds,
                "reward_scale": float(self.env.reward_scale),
                "env": self.env.env.state(),
                "held_out": self.held_out.state(),
            },
        )
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """End the progress bar."""
        if hasattr(self, "_bar"):
            self._bar.close()

    def _log(self, last: bool = False) -> None:
        """Write what the rollout and the update after it recorded as one row."""
        due = self.model.num_timesteps // self.every
        if due > self._evaluated or last:
            self._evaluated = due
            told = self.held_out.sentence
            for key, value in self.held_out.look(self.model.num_timesteps).items():
                self.logger.record(key, value)
            if self.held_out.sentence and not told:
                self._bar.write(f"warning: {self.held_out.sentence}")
        self.logger.record(STEP, self.model.num_timesteps)
        self.logger.record("time/seconds", round(self.seconds, 2))
        self.logger.dump(self.model.num_timesteps)


def learn(model: BaseAlgorithm, total: int, watcher: Watcher, logger: Logger) -> bool:
    """Train until `total` steps; returns False where the watcher ended it earlier.

    Raises:
        KeyboardInterrupt: Ctrl-C; the watcher's last checkpoint is whole.
    """
    model.set_logger(logger)
    remaining = total - model.num_timesteps
    if remaining <= 0:
        raise InputError(
            f"the run has {model.num_timesteps} steps already; give --steps beyond that to go on."
        )
    silent: Any = None  # SB3 takes None, whatever its annotation says
    try:
        # the watcher writes the log, so that a row and a checkpoint describe the same moment
        model.learn(
            remaining, callback=watcher, log_interval=silent, reset_num_timesteps=model._last_obs is None
        )
        return True
    except TrainingStoppedError:
        return False
    finally:
        watcher.close()


def resume(model: BaseAlgorithm, env: IspVecEnv, checkpoint: Path) -> dict[str, Any]:
    """Put model, generators and environment into the checkpoint's state; returns the rest of that state."""
    state = read_state(checkpoint)
    env.reward_scale = float(state["reward_scale"])
    env.env.restore(state["env"])
    load_checkpoint(checkpoint, model)
    return state
