"""Exploration in mirrored pairs: on one frame, to either side, and what a pair tells of the slope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.logger import Logger

from agents.mirrored import MirroredGaussian, MirroredPPO, are_paired, slopes_along
from agents.playing import make_envs
from agents.training import build_model
from tests.fakes import MeanGrey, small_core

SIZES = tuple((72, 72 + 8 * (number % 2)) for number in range(10))


def collected(num_envs: int) -> Any:
    """A learner of one look after its first rollout."""
    env = make_envs("tune", small_core(reward=MeanGrey(0.45), sizes=SIZES), num_envs)
    model: Any = build_model("ppo", env, seed=0)
    model.set_logger(Logger(None, []))
    # a policy that has learnt something: its means differ from scene to scene
    torch.nn.init.normal_(model.policy.action_net.weight, std=0.1)
    _, callback = model._setup_learn(num_envs)
    model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    return model


def means_of(model: Any) -> np.ndarray:
    """What the policy means at each step of its rollout: ``(steps, slots, P)``."""
    buffer, rows = model.rollout_buffer, []
    for step in range(model.n_steps):
        seen = {name: torch.as_tensor(entry[step]) for name, entry in buffer.observations.items()}
        with torch.no_grad():
            rows.append(model.policy.get_distribution(seen).mode().numpy())
    return np.stack(rows)


def test_two_slots_see_one_frame_and_act_on_either_side_of_its_mean():
    model = collected(8)
    observations, means = model.rollout_buffer.observations, means_of(model)
    for name, entry in observations.items():
        np.testing.assert_array_equal(entry[:, 0::2], entry[:, 1::2], err_msg=name)
    away = model.rollout_buffer.actions - means
    np.testing.assert_allclose(away[:, 1::2], -away[:, 0::2], atol=1e-5)
    assert np.abs(away).mean() == pytest.approx(np.exp(-2.3) * (2 / np.pi) ** 0.5, rel=0.15)
    assert np.abs(means).mean() > 0.05
    frames = observations["histogram"][:, 0::2].reshape(-1, 64)
    assert len(np.unique(frames, axis=0)) > 5  # pairs differ


def test_the_advantage_of_a_side_is_half_of_what_it_gains_over_the_other():
    buffer = collected(8).rollout_buffer
    left, right = buffer.rewards[:, 0::2], buffer.rewards[:, 1::2]
    np.testing.assert_allclose(buffer.advantages[:, 0::2], (left - right) / 2, atol=1e-7)
    np.testing.assert_array_equal(buffer.advantages[:, 1::2], -buffer.advantages[:, 0::2])
    assert np.abs(buffer.advantages).max() > 0
    # the value function goes on learning what renders earn
    np.testing.assert_allclose(buffer.returns, buffer.rewards, atol=1e-6)


def test_a_last_slot_without_another_is_weighed_as_ever():
    buffer = collected(5).rollout_buffer
    np.testing.assert_allclose(buffer.advantages[:, 4], buffer.rewards[:, 4] - buffer.values[:, 4], atol=1e-6)
    np.testing.assert_array_equal(buffer.advantages[:, 3], -buffer.advantages[:, 2])


def test_what_exploration_costs_is_no_noise_in_a_pair():
    """Of a reward that falls both ways, and a little less one way, pairs tell the slope almost at once."""
    torch.manual_seed(3)
    slope, cost = torch.tensor([0.1, -0.2, 0.05]), torch.tensor([8.0, 4.0, 6.0])

    def error(kind: type[DiagGaussianDistribution], pairs: bool) -> float:
        found = []
        for _ in range(40):
            drawn = kind(3).proba_distribution(torch.zeros(64, 3), torch.tensor(-2.3)).sample()
            rewards = drawn @ slope - drawn.square() @ cost
            weights = rewards - rewards.mean()
            if pairs:
                weights = torch.from_numpy(slopes_along(rewards.numpy()[None])[0])
            found.append((weights[:, None] * drawn).mean(dim=0) / np.exp(-4.6))
        return float((torch.stack(found) - slope).square().mean().sqrt())

    assert error(MirroredGaussian, pairs=True) < 0.3 * error(DiagGaussianDistribution, pairs=False)


@pytest.mark.parametrize(
    "task, algo, num_envs",
    [("refine", "ppo", 8), ("tools", "ppo", 8), ("tune", "a2c", 8), ("tune", "ppo", 1)],
)
def test_all_else_explores_as_ever(task, algo, num_envs):
    env = make_envs(task, small_core(sizes=SIZES), num_envs, algo)
    assert env.env.draw == "independent"
    assert not are_paired(env)
    model: Any = build_model(algo, env, seed=0)
    assert not isinstance(model.policy.action_dist, MirroredGaussian)
    if algo == "ppo":
        assert isinstance(model, MirroredPPO)


def test_a_policy_that_learnt_in_pairs_draws_single_actions_too():
    model = collected(4)
    seen = {name: entry[0, :3] for name, entry in model.rollout_buffer.observations.items()}
    actions, _ = model.policy.predict(seen, deterministic=False)
    assert actions.shape == (3, 2)
    assert np.isfinite(actions).all()
