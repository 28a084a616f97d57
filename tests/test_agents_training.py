"""A run learns a problem whose best answer is known, can be stopped anywhere, and ends as it would have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.checkpoint import load_checkpoint
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.launch import mend
from agents.playing import make_envs
from agents.policy_file import load_policy
from agents.runs import CHECKPOINT, METRICS, read_metrics
from attiqa.errors import InputError
from isp_env.envs import Core
from tests.fakes import MeanGrey, small_core

SIZES = tuple((72, 72 + 8 * (number % 2)) for number in range(10))


def experiment(run: Path, reward: MeanGrey | None = None, **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    core = small_core(reward=reward, sizes=SIZES)
    arguments: dict[str, object] = {"steps": 256, "num_envs": 16} | options
    return Experiment(run, core, Bench(core, core_score), **arguments)  # type: ignore[arg-type]


def core_score(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


def best_gain(core: Core) -> float:
    """What the best of a fine grid of exposures gains, on average."""
    exposures = torch.linspace(-1, 1, 81)
    frames = np.repeat(np.arange(len(core)), len(exposures))
    actions = torch.stack([exposures, torch.zeros(81)], dim=1).repeat(len(core), 1)
    potential = core.potential_of(frames, core.space.to_physical(actions)).view(len(core), -1)
    return float((potential.max(dim=1).values - core.neutral["potential"]).mean())


def weights(built: Experiment) -> dict[str, torch.Tensor]:
    return built.model.policy.state_dict()


@pytest.mark.parametrize("algo, steps", [("ppo", 4096), ("dpg", 1536)])
def test_a_learner_learns_what_each_scene_needs(tmp_path, algo, steps):
    built = experiment(tmp_path / "run", reward=MeanGrey(0.45), algo=algo, steps=steps, num_envs=64)
    assert float(np.abs(built.policy().gains).max()) == pytest.approx(0.0, abs=1e-6)
    built.train()
    assert float(built.policy().gains.mean()) > 0.8 * best_gain(built.bench.core)


@pytest.mark.parametrize(
    "task, algo",
    [
        ("tune", "dpg"),
        ("refine", "dpg"),
        ("tune", "ppo"),
        ("refine", "ppo"),
        ("tune", "sac"),
        ("tune", "td3"),
    ],
)
def test_a_resumed_run_ends_as_the_unbroken_one(tmp_path, task, algo, monkeypatch):
    monkeypatch.setattr("agents.training.CHECKPOINT_SECONDS", 0.0)
    whole = few_updates(experiment(tmp_path / "whole", task=task, algo=algo, steps=384))
    whole.train()
    half = few_updates(experiment(tmp_path / "broken", task=task, algo=algo, steps=384))
    stop_after(half, 160)
    with pytest.raises(KeyboardInterrupt):
        half.train()
    assert 0 < half.model.num_timesteps < 384
    torch.manual_seed(77)  # whatever happens in between
    np.random.seed(77)
    rest = few_updates(
        experiment(tmp_path / "broken", task=task, algo=algo, steps=384, seed=9, continued=True)
    )
    rest.train()
    assert rest.model.num_timesteps == whole.model.num_timesteps == 384
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(rest)[name], value, rtol=0, atol=0, msg=name)
    kept = [(row["time/total_timesteps"], row["rollout/gain_mean"]) for row in metrics(tmp_path / "broken")]
    assert kept == [
        (row["time/total_timesteps"], row["rollout/gain_mean"]) for row in metrics(tmp_path / "whole")
    ]


def test_a_run_that_is_stopped_in_its_table_keeps_its_policy(tmp_path):
    built = experiment(tmp_path / "run", steps=64)
    built.train()  # what follows, a search on every held-out scene, takes longer than some trainings
    stored = load_policy(tmp_path / "run").policy.state_dict()
    for name, value in weights(built).items():
        torch.testing.assert_close(stored[name], value, rtol=0, atol=0, msg=name)


def metrics(run: Path) -> list[dict[str, str]]:
    return [row for row in read_metrics(run / METRICS) if row.get("rollout/gain_mean")]


def few_updates(built: Experiment) -> Experiment:
    """The same with two updates a step, of which actors take one, where replayed steps are learnt from."""
    if isinstance(built.model, OffPolicyAlgorithm):
        built.model.gradient_steps = 2
    return built


def stop_after(built: Experiment, steps: int) -> None:
    """Ctrl-C in the middle of the rollout that passes `steps`."""
    step = built.env.step_wait

    def interrupted() -> object:
        if built.model.num_timesteps >= steps:
            raise KeyboardInterrupt
        return step()

    built.env.step_wait = interrupted  # type: ignore[method-assign,assignment]


def check_ends_as_unbroken(build: Callable[..., Experiment], folder: Path, stop: int, kept: int) -> None:
    """A run that is stopped when it passes `stop` steps, with a checkpoint of `kept`, goes on under another
    seed and ends as one that was not stopped. `build` takes the run's folder and options of an experiment.
    """
    whole = build(folder / "whole")
    whole.train()
    half = build(folder / "half")
    stop_after(half, stop)
    with pytest.raises(KeyboardInterrupt):
        half.train()
    assert half.model.num_timesteps == kept
    rest = build(folder / "half", seed=5, continued=True)
    rest.train()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(rest)[name], value, rtol=0, atol=0)


def test_ctrl_c_leaves_a_policy_a_summary_and_a_report(tmp_path):
    built = experiment(tmp_path / "run")
    stop_after(built, 160)
    with pytest.raises(KeyboardInterrupt):
        built.train()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["finished"] is False
    assert 0 < summary["steps"] <= 160
    assert set(summary["held_out"]) == {"neutral", "policy"}
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
    assert load_policy(tmp_path / "run").digest == summary["policy_digest"]


def test_a_time_limit_ends_the_run_early_and_keeps_it_resumable(tmp_path):
    built = experiment(tmp_path / "run", steps=100_000)
    built.train(time_limit=0.5)
    assert 0 < built.model.num_timesteps < 100_000
    again = experiment(tmp_path / "run", steps=built.model.num_timesteps + 128, continued=True)
    again.train()
    assert again.model.num_timesteps == built.model.num_timesteps + 128


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    built = experiment(tmp_path / "run", steps=128)
    built.train()
    other = experiment(tmp_path / "other", algo="sac")
    with pytest.raises(InputError, match="another architecture"):
        load_checkpoint(tmp_path / "run" / CHECKPOINT, other.model)


def test_a_truncated_or_missing_checkpoint_is_refused(tmp_path):
    built = experiment(tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        load_checkpoint(path, built.model)
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        load_checkpoint(path, built.model)


def test_the_table_holds_what_the_renders_earn(tmp_path):
    built = experiment(tmp_path / "run", steps=128)
    built.train()
    rows = built.compare(SourceOf(built.bench.core), 72)
    summary = built.conclude(rows, 1.0)
    table = summary["held_out"]
    assert list(table) == ["neutral", "libraw_auto", "random_search", "policy"]
    assert table["neutral"]["reward"] == 0.0
    assert table["neutral"]["reward_ci95"] == [0.0, 0.0]
    assert table["random_search"]["evaluations"] == 64
    assert table["policy"]["evaluations"] == 1
    assert table["random_search"]["reward"] <= best_gain(built.bench.core) + 1e-3
    low, high = table["policy"]["reward_ci95"]
    assert low <= table["policy"]["reward"] <= high


class SourceOf:
    """LibRaw's part of a source, over the frames of a core."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def libraw_auto(self, index: int, short_side: int) -> torch.Tensor:
        return self._core.render_of(np.array([index]), self._core.space.neutral_values(1))[0]


def test_observations_reach_sb3_without_a_copy_and_without_the_thumbnail():
    env = make_envs("tune", small_core(sizes=SIZES), 6)
    env.seed(3)
    first = env.reset()
    assert set(first) == {"histogram", "clipping", "features", "setting", "progress"}
    step = env.env.step_tensors(np.zeros((6, 2), np.float32))
    seen = env.seen(step.observation)
    assert np.shares_memory(seen["histogram"], step.observation["histogram"].numpy())


def test_episodes_that_end_show_their_last_observation():
    env = make_envs("tune", small_core(sizes=SIZES), 4)
    env.reset()
    actions = np.full((4, 2), 0.25, np.float32)
    _, rewards, dones, infos = env.step(actions)
    assert rewards.shape == dones.shape == (4,)
    assert dones.all()
    for info in infos:
        np.testing.assert_array_equal(info["terminal_observation"]["setting"], [0.25, 0.25])
        assert info["TimeLimit.truncated"] is False


def test_a_reward_that_is_not_a_number_is_refused():
    class Nan(MeanGrey):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            value = super().__call__(images)
            return torch.where(torch.full_like(value, self.scored > len(SIZES)).bool(), torch.nan, value)

    env = make_envs("tune", small_core(reward=Nan(), sizes=SIZES), 4)
    env.reset()
    with pytest.raises(InputError, match="NaN or infinite"):
        env.step(np.ones((4, 2), np.float32))


@pytest.mark.parametrize(
    "rollouts, helps",
    [
        ([-0.05] * 8 + [0.03, 0.01], "gains +0.0100 on those that it trains on"),
        ([0.01] * 8 + [0.02, -0.03] * 8, "train for more --steps"),
        ([], "train for more --steps"),
    ],
)
def test_a_policy_that_gains_nothing_elsewhere_is_told_what_helps(tmp_path, rollouts, helps):
    lines = [
        "time/total_timesteps,rollout/gain_mean",
        "0,",
        *(f"{64 * n},{g}" for n, g in enumerate(rollouts)),
    ]
    (tmp_path / METRICS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert helps in mend(tmp_path / METRICS)
