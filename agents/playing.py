"""Environments by task name, and policies acting in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import isp_env  # noqa: F401  registers the environments
from agents.answers import Answer, Sequences, Settings
from agents.policy import Observations, put_to_work
from agents.policy_file import StoredPolicy
from agents.search import Floats
from agents.vec_env import IspVecEnv
from attiqa.errors import InputError
from isp_env.envs.core import Core
from isp_env.envs.tools import ToolsTask

Decide = Callable[[Observations], np.ndarray]

TASKS = {"tune": "isp_env/Tune-v0", "refine": "isp_env/Refine-v0", "tools": "isp_env/Tools-v0"}
STEPS_AN_EPISODE = {"tune": 1, "refine": 5, "tools": 5}

# which of the three action spaces of Tools-v0 an algorithm acts in
_TOOL_ACTIONS = {"ppo": "multi_discrete", "a2c": "multi_discrete", "dqn": "discrete"}


def check_task(algo: str, task: str, slopes: bool = False) -> None:
    """Raise `InputError` where `algo` cannot act in `task`, or where that has no `slopes` to show.

    Every algorithm can use tools, because Tools-v0 has an action space of each kind.
    """
    if task == "tools" and slopes:
        raise InputError(
            "--slopes are those of continuous parameters, and the task tools sets none; take --task tune or "
            "refine, or leave --slopes away."
        )
    if task != "tools" and algo == "dqn":
        raise InputError(
            f"dqn picks one of a list of actions, and the task {task} sets continuous parameters; take "
            "--task tools, or another --algo."
        )
    if task != "refine" and algo == "climb":
        raise InputError(
            f"climb goes on from what it has seen of a picture, and the task {task} does not let it look "
            "twice at the same parameters; take --task refine, or another --algo."
        )


def make_envs(
    task: str, core: Core, num_envs: int, algo: str = "ppo", slopes: bool = False, looks: int | None = None
) -> IspVecEnv:
    """A batch of episodes of `task` over `core`, as SB3's `algo` sees it; climb sees the trail of its looks.

    With `slopes` those at the neutral render are seen, by whatever algorithm. Episodes of the task refine end
    after `looks`, where so many are wanted. Where each has one step, PPO sees frames by twos: see
    `agents.mirrored`.
    """
    options: dict[str, Any] = {"slopes": slopes}
    if task == "tools":
        options = {"actions": _TOOL_ACTIONS.get(algo, "box")}
    elif task == "refine":
        options |= {"trail": algo == "climb", "looks": looks}
    elif algo == "ppo" and num_envs > 1:
        options["draw"] = "paired"
    envs = gym.make_vec(
        TASKS[task], num_envs=num_envs, vectorization_mode="vector_entry_point", core=core, **options
    )
    return IspVecEnv(envs)  # type: ignore[arg-type]


def envs_of(stored: StoredPolicy, core: Core, looks: int | None = None) -> IspVecEnv:
    """One episode for each frame of `core`, in which the policy sees what it was trained to see.

    Of the task refine, it ends after `looks` where so many are wanted.
    """
    put_to_work(stored.policy, core)
    return make_envs(stored.card["task"], core, len(core), stored.algo, stored.sees_slopes, looks)


def first_look(env: IspVecEnv, frames: np.ndarray) -> Observations:
    """Start an episode on each of `frames` ``(B,)``, one a slot; returns what is seen, ``(B, ...)``."""
    observation, _ = env.env.reset_tensors(options={"frames": frames})
    return env.seen(observation)


def looks(env: IspVecEnv, first: Decide | None = None) -> Observations:
    """What a policy may see of the first frames of `env`, one a slot, to standardise its inputs by.

    These are the neutral renders and, where `first` makes the first change of an episode, as many after it:
    each entry ``(N, ...)``.
    """
    seen = first_look(env, np.arange(env.num_envs))
    if first is None:
        return seen
    step = env.env.step_tensors(first(seen))
    later = env.seen(step.final_observation or step.observation)
    return {name: np.concatenate([rows, later[name]]) for name, rows in seen.items()}


@dataclass(frozen=True)
class Look:
    """One try of a policy at each of F frames.

    Attributes:
        answer: what it sets.
        potential: ``(F,)``, the reward's value of its render; -inf where an episode had ended before.
        share: ``(F,)``, what is left of its strength where it was drawn back, see `agents.delivery`.
    """

    answer: Answer
    potential: Floats
    share: Floats


def play(env: IspVecEnv, frames: np.ndarray, decide: Decide) -> tuple[Answer, int]:
    """Let a policy act once on each of `frames` ``(B,)``, one a slot, until its episode ends.

    Returns:
        The best of its looks, and the most steps that an episode took.
    """
    *_, (steps, best) = enumerate(best_so_far(looks_of(env, frames, decide)), start=1)
    return best.answer, steps


def best_so_far(looks: Iterable[Look]) -> Iterator[Look]:
    """After each look the best until then, a row a frame.

    Each look of an episode is scored, so an episode answers with the best of them, as a search does.
    """
    best: Look | None = None
    for look in looks:
        if best is not None:
            better = look.potential > best.potential
            look = Look(
                look.answer.where(better, best.answer),
                np.where(better, look.potential, best.potential),
                np.where(better, look.share, best.share),
            )
        best = look
        yield best


def looks_of(env: IspVecEnv, frames: np.ndarray, decide: Decide) -> Iterator[Look]:
    """The looks that a policy takes at each of `frames` ``(B,)``, one a slot, each by itself."""
    task = env.env.task
    seen = first_look(env, frames)
    running = np.ones(len(frames), dtype=bool)
    while running.any():
        step = env.env.step_tensors(decide(seen))
        # the observation's order counts in shares of the horizon, so info goes last
        now = (step.final_observation or step.observation) | (step.final_info or step.info)
        potential = np.where(running, now["potential"].double().cpu().numpy(), -np.inf)
        # settings and sequences are copied, as tensors of the environment are written to again
        if isinstance(task, ToolsTask):
            order, strength = (now[name].cpu().numpy().copy() for name in ("order", "strength"))
            answer: Answer = Sequences(order, strength, task.tools)
        else:
            setting = now["setting"].cpu().numpy().astype(np.float64)
            answer = Settings(setting, task.core.space, task.core.pipeline)
        running &= ~step.terminated.cpu().numpy()
        seen = env.seen(step.observation)
        yield Look(answer, potential, np.ones(len(frames)))


def exploration_spread(env: IspVecEnv, deviation: float, seed: int) -> float:
    """The standard deviation of the reward of one step under first, unlearnt exploration.

    Training divides rewards by it, so that one recipe fits rewards of any unit.
    """
    generator = np.random.default_rng(seed)
    env.seed(seed)
    env.reset()
    if isinstance(env.action_space, gym.spaces.Box):
        noise = generator.normal(0.0, deviation, (env.num_envs, *env.action_space.shape))
        actions = noise.clip(-1.0, 1.0).astype(np.float32)
    else:
        env.action_space.seed(seed)
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
    rewards = env.step(actions)[1] / env.reward_scale
    return float(rewards.std())
