"""Policies start at the neutral render, see standardised numbers, and survive a trip to disk."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.dpg import DPG, DPGPolicy, ManyScales
from agents.policy import (
    COMPONENTS,
    StandardisedExtractor,
    act,
    build_policy,
    calibrate,
    check_action_space,
    policy_arguments,
)
from agents.policy_file import describe_network, load_policy, save_policy
from attiqa.errors import InputError
from isp_env.envs.task import SLOPE

SEES = spaces.Dict(
    {
        "statistics": spaces.Box(-10.0, 10.0, (7,), np.float32),
        "histogram": spaces.Box(0.0, 1.0, (3, 4), np.float32),
    }
)
ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32)
HIDDEN = [8, 8]


def some_observations(count: int = 16) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "histogram": generator.uniform(0, 1, (count, 3, 4)).astype(np.float32),
        "statistics": (100 + 20 * generator.standard_normal((count, 7))).astype(np.float32),
    }


@pytest.mark.parametrize("algo", ["dpg", "ppo", "a2c", "sac", "td3"])
def test_an_untrained_policy_answers_exactly_zero(algo):
    policy = build_policy(algo, SEES, ACTIONS, HIDDEN, log_std=-1.0)
    calibrate(policy, some_observations())
    np.testing.assert_array_equal(act(policy, some_observations()), np.zeros((16, 3)))


def test_critics_expect_nothing_of_the_neutral_action_and_something_of_others():
    policy = build_policy("dpg", SEES, ACTIONS, HIDDEN, log_std=-1.0)
    assert isinstance(policy, DPGPolicy)
    tensors, _ = policy.obs_to_tensor(some_observations())
    features = policy.features(tensors)
    still, moved = torch.zeros(16, 3), torch.full((16, 3), 0.5)
    assert torch.equal(policy.gains(features, still), torch.zeros(len(policy.critics), 16))
    assert policy.gains(features, moved).std(dim=0).min().item() > 0  # so caution means something


class Still(gym.Env):
    """What never changes, whatever is done."""

    observation_space, action_space = SEES, ACTIONS

    def reset(self, *, seed=None, options=None):
        return {key: rows[0] for key, rows in some_observations(1).items()}, {}

    def step(self, action):
        return self.reset()[0], 0.0, True, False, {}


def test_the_actor_climbs_at_states_with_noise_of_their_own_spread():
    arguments = policy_arguments("dpg", HIDDEN, log_std=-1.0)
    env = DummyVecEnv([Still])
    learner = DPG(
        "MultiInputPolicy",
        env,
        jitter=0.5,
        policy_kwargs=arguments,
        buffer_size=8,
        learning_rate=1e-3,
        seed=0,
    )
    learner.set_logger(Logger(None, []))
    climbed = []
    expected = learner.policy.gains

    def gains(features, actions):
        climbed.append(features)
        return expected(features, actions)

    learner.policy.gains = gains
    states = torch.randn(4096, learner.policy.actor.features_dim) * torch.linspace(0.0, 2.0, 19)
    learner._climb(states)
    torch.testing.assert_close((climbed[0] - states).std(dim=0), 0.5 * states.std(dim=0), rtol=0.1, atol=1e-6)


def test_an_untrained_choice_is_the_first_one():
    policy = build_policy("dqn", SEES, spaces.Discrete(5), HIDDEN, log_std=-1.0)
    np.testing.assert_array_equal(act(policy, some_observations()), np.zeros(16))


def test_the_first_deviation_is_the_same_for_every_observation():
    policy = build_policy("ppo", SEES, ACTIONS, HIDDEN, log_std=-1.5)
    tensors, _ = policy.obs_to_tensor(some_observations())
    deviation = policy.get_distribution(tensors).distribution.stddev
    torch.testing.assert_close(deviation, torch.full((16, 3), float(np.exp(-1.5))))


def test_calibrated_inputs_have_mean_zero_and_one_length_an_entry():
    policy = build_policy("ppo", SEES, ACTIONS, HIDDEN, log_std=-1.0)
    calibrate(policy, some_observations(500))
    extractor = policy.features_extractor
    assert isinstance(extractor, StandardisedExtractor)
    tensors, _ = policy.obs_to_tensor(some_observations(500))
    flat = extractor(tensors)
    assert flat.shape == (500, 19)
    torch.testing.assert_close(flat.mean(dim=0), torch.zeros(19), atol=0.02, rtol=0)
    for part in (flat[:, :12], flat[:, 12:]):  # histogram, statistics
        length = float(part.square().sum(dim=1).mean().sqrt())
        assert length == pytest.approx(StandardisedExtractor.LENGTH, rel=0.02)


def test_an_input_that_never_varies_is_only_centred():
    policy = build_policy("ppo", SEES, ACTIONS, HIDDEN, log_std=-1.0)
    still = {key: np.repeat(value[:1], 9, axis=0) for key, value in some_observations().items()}
    calibrate(policy, still)
    tensors, _ = policy.obs_to_tensor(still)
    torch.testing.assert_close(policy.features_extractor(tensors), torch.zeros(9, 19), atol=1e-4, rtol=0)


def test_a_wide_input_becomes_its_first_principal_components():
    sees = spaces.Dict({"features": spaces.Box(-9.0, 9.0, (200,), np.float32)})
    generator = np.random.default_rng(0)
    causes = generator.standard_normal((60, 3)) * [3.0, 2.0, 1.0]
    features = causes @ generator.standard_normal((3, 200)) + 0.01 * generator.standard_normal((60, 200))
    policy = build_policy("dpg", sees, ACTIONS, HIDDEN, log_std=-1.0)
    calibrate(policy, {"features": features.astype(np.float32)})
    tensors, _ = policy.obs_to_tensor({"features": features.astype(np.float32)})
    seen = policy.features(tensors).numpy()
    assert seen.shape == (60, COMPONENTS)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    strengths = np.linalg.svd(standard * StandardisedExtractor.LENGTH / 200**0.5, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=0), strengths[: seen.shape[1]], rtol=1e-3, atol=1e-3)
    assert (seen.var(axis=0)[3:] < 1e-3 * seen.var(axis=0)[0]).all()


def test_fewer_frames_than_components_leave_the_others_at_zero():
    sees = spaces.Dict({"features": spaces.Box(-9.0, 9.0, (90,), np.float32)})
    features = np.random.default_rng(0).standard_normal((5, 90)).astype(np.float32)
    policy = build_policy("dpg", sees, ACTIONS, HIDDEN, log_std=-1.0)
    calibrate(policy, {"features": features})
    tensors, _ = policy.obs_to_tensor({"features": features})
    seen = policy.features(tensors)
    assert seen[:, :4].abs().sum() > 1
    assert torch.equal(seen[:, 5:], torch.zeros(5, COMPONENTS - 5))


def test_exploration_moves_all_a_little_or_a_few_to_the_ends():
    np.random.seed(0)
    noise = ManyScales(14, 0.05, 0.4)
    drawn = np.stack([noise() for _ in range(4000)])
    assert drawn.dtype == np.float32
    far = np.abs(drawn) > 0.5
    few = (np.abs(drawn) < 0.5).mean(axis=1) > 0.6
    jumped = far.any(axis=1) & few & (np.median(np.abs(drawn), axis=1) < 0.15)
    assert 0.3 < jumped.mean() < 0.6  # two of fourteen, on average, so one in nine of the jumps moves none
    assert (np.abs(drawn[jumped]) >= 1).any(axis=0).all()  # each parameter gets to both of its ends
    deviations = drawn.std(axis=1)[~far.any(axis=1)]
    assert np.quantile(deviations, 0.05) < 0.09 < 0.2 < np.quantile(deviations, 0.95)


def test_the_order_of_a_dict_observation_changes_nothing():
    policy = build_policy("ppo", SEES, ACTIONS, HIDDEN, log_std=-1.0)
    calibrate(policy, some_observations())
    tensors, _ = policy.obs_to_tensor(some_observations())
    turned = dict(reversed(list(tensors.items())))
    torch.testing.assert_close(policy.features_extractor(turned), policy.features_extractor(tensors))


@pytest.mark.parametrize("algo", ["ppo", "a2c", "sac", "td3"])
def test_what_sees_slopes_reads_components_of_what_is_wide(algo, tmp_path):
    wide = spaces.Dict({"features": spaces.Box(-9.0, 9.0, (4 * COMPONENTS,), np.float32)})
    sloping = spaces.Dict(wide.spaces | {SLOPE: spaces.Box(-9.0, 9.0, (3,), np.float32)})
    read = []
    for sees in (wide, sloping):
        policy = build_policy(algo, sees, ACTIONS, HIDDEN, log_std=-1.0)
        reader = next(each for each in policy.modules() if isinstance(each, StandardisedExtractor))
        read.append(reader.features_dim)
        save_policy(tmp_path, policy, describe_network(algo, sees, ACTIONS, HIDDEN, -1.0), {"task": "tune"})
        assert load_policy(tmp_path).sees == tuple(sees.spaces)
    assert read == [4 * COMPONENTS, COMPONENTS + 3]


def test_an_algorithm_names_those_that_fit_the_action_space():
    with pytest.raises(
        InputError, match="sac cannot act in a Discrete action space; take --algo ppo or a2c or dqn"
    ):
        check_action_space("sac", spaces.Discrete(4))


def saved(folder: Path, hidden: list[int] = HIDDEN) -> torch.nn.Module:
    policy = build_policy("ppo", SEES, ACTIONS, hidden, log_std=-1.0)
    torch.nn.init.normal_(policy.action_net.weight)
    calibrate(policy, some_observations())
    save_policy(folder, policy, describe_network("ppo", SEES, ACTIONS, hidden, -1.0), {"task": "tune"})
    return policy


def test_a_stored_policy_acts_as_before(tmp_path):
    policy = saved(tmp_path)
    stored = load_policy(tmp_path)
    np.testing.assert_array_equal(stored.act(some_observations()), act(policy, some_observations()))
    assert stored.card["task"] == "tune"
    assert len(stored.digest) == 64


def test_a_policy_of_another_architecture_is_refused(tmp_path):
    saved(tmp_path)
    card = json.loads((tmp_path / "policy.json").read_text())
    card["network"]["hidden"] = [16, 16]
    (tmp_path / "policy.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"another architecture: .* expected \(3, 16\)"):
        load_policy(tmp_path)


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    saved(tmp_path / "a")
    saved(tmp_path / "b", hidden=[4])
    (tmp_path / "a" / "policy.safetensors").write_bytes((tmp_path / "b" / "policy.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"not the file that policy\.json describes"):
        load_policy(tmp_path / "a")


def test_a_folder_without_a_policy_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist; expected the card of a trained policy"):
        load_policy(tmp_path)
    (tmp_path / "policy.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="no policy card"):
        load_policy(tmp_path)
