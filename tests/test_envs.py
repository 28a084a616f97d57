"""The Gymnasium contract of every environment: checkers, seeds, batches, rendering, specs, bad input."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.logger import Logger

from attiqa.errors import InputError
from tests.environments import TASKS, actions_for, make, make_vec
from tests.fakes import small_core


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_and_sb3_checkers_find_nothing(task: str) -> None:
    env = make(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*needs a display.*")
        check_env(env)
        sb3_check_env(env, skip_render_check=False)


@pytest.mark.parametrize("task", TASKS)
def test_the_wrapped_environment_passes_a_random_rollout_without_warnings(task: str) -> None:
    env = gym.make(f"isp_env/{task}-v0", core=small_core())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.action_space.seed(3)
        gains = []
        for _ in range(3):
            seen, _ = env.reset()
            over, rewards = False, []
            while not over:
                assert seen in env.observation_space
                seen, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                rewards.append(reward)
                over = terminated or truncated
            assert len(rewards) <= {"Tune": 1, "Refine": 5, "Tools": 5}[task]
            gains.append(sum(rewards))
        assert np.isfinite(gains).all()
        assert np.any(gains)


@pytest.mark.parametrize("task", TASKS)
def test_seeds_repeat_exactly(task: str) -> None:
    rollouts = []
    for _ in range(2):
        envs = make_vec(task, 3)
        first, _ = envs.reset(seed=11)
        steps = [envs.step(action) for action in actions_for(envs, 7)]
        rollouts.append([first, *((step[0], step[1]) for step in steps)])
    for one, other in zip(*rollouts, strict=True):
        assert gym.utils.env_checker.data_equivalence(one, other, exact=True)


@pytest.mark.parametrize("task", TASKS)
def test_slot_i_of_a_batch_is_a_single_environment_seeded_s_plus_i(task: str) -> None:
    core = small_core()
    envs = make_vec(task, 3, core=core)
    singles = [make(task, core=core) for _ in range(3)]
    batch, infos = envs.reset(seed=20)
    starts = [env.reset(seed=20 + slot) for slot, env in enumerate(singles)]
    for slot, (observation, info) in enumerate(starts):
        assert infos["frame"][slot] == info["frame"]
        for name, value in observation.items():
            np.testing.assert_allclose(batch[name][slot], value, atol=1e-6)
    for actions in actions_for(envs, 6):
        batch, rewards, terminated, _, infos = envs.step(actions)
        for slot, env in enumerate(singles):
            observation, reward, over, _, info = env.step(actions[slot])
            assert over == terminated[slot]
            np.testing.assert_allclose(rewards[slot], reward, atol=1e-6)
            if over:
                last = infos["final_obs"][slot]
                assert infos["final_info"]["frame"][slot] == info["frame"]
                assert last.keys() == observation.keys()
                for name, value in observation.items():
                    np.testing.assert_allclose(last[name], value, atol=1e-6)
                observation, info = env.reset()
            assert infos["frame"][slot] == info["frame"]
            for name, value in observation.items():
                np.testing.assert_allclose(batch[name][slot], value, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_batches_lie_in_their_spaces_and_reset_in_the_same_step(task: str) -> None:
    envs = make_vec(task, 4)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    for actions in actions_for(envs, 6):
        observation, rewards, terminated, truncated, infos = envs.step(actions)
        assert observation in envs.observation_space
        assert rewards.shape == terminated.shape == truncated.shape == (4,)
        assert not truncated.any()
        assert ("final_obs" in infos) == terminated.any()
        if terminated.any():
            assert (observation["progress"][terminated] == 0).all()
            assert all(last in envs.single_observation_space for last in infos["final_obs"][terminated])
            assert all(last is None for last in infos["final_obs"][~terminated])


def test_gymnasiums_own_wrappers_take_the_batch() -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(make_vec("Refine", 3))
    envs.reset(seed=0)
    for actions in actions_for(make_vec("Refine", 3), 5):
        _, _, terminated, _, infos = envs.step(actions)
    assert terminated.all()
    assert (infos["episode"]["l"] == 5).all()


def test_make_vec_in_sync_mode_wraps_single_environments() -> None:
    envs = gym.make_vec("isp_env/Tune-v0", num_envs=2, vectorization_mode="sync", core=small_core())
    observation, _ = envs.reset(seed=0)
    assert observation["thumbnail"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_batch_goes_on_as_the_saved_one(task: str) -> None:
    core = small_core()
    one, other = make_vec(task, 3, core=core), make_vec(task, 3, core=core)
    one.reset(seed=4)
    actions = actions_for(one, 9)
    for action in actions[:3]:
        one.step(action)
    seen = other.restore(one.state())
    for name, value in one.task.observe().items():
        torch.testing.assert_close(seen[name], value)
    for action in actions[3:]:
        expected, got = one.step(action), other.step(action)
        np.testing.assert_allclose(got[1], expected[1], atol=1e-6)
        np.testing.assert_array_equal(got[4]["frame"], expected[4]["frame"])


def test_changing_what_was_returned_does_not_change_the_environment() -> None:
    core = small_core()
    touched, untouched = make_vec("Refine", 2, core=core), make_vec("Refine", 2, core=core)
    results = []
    for envs in (touched, untouched):
        observation, infos = envs.reset(seed=2)
        for actions in actions_for(envs, 4):
            if envs is touched:
                for array in [*observation.values(), infos["potential"], infos["values"], infos["frame"]]:
                    array[...] = 0
            observation, rewards, _, _, infos = envs.step(actions)
        results.append(rewards)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("task", ["Tune", "Refine"])
def test_rgb_array_shows_the_current_render_at_the_frames_size(task: str) -> None:
    core = small_core()
    env = make(task, core=core, render_mode="rgb_array")
    env.reset(seed=0, options={"frame": 1})
    before = env.render()
    env.step(np.float32([1.0, 0.0]))
    after = env.render()
    assert before.shape == after.shape == (96, 72, 3)
    assert before.dtype == np.uint8
    assert after.mean() > before.mean()
    envs = make_vec(task, 2, core=core, render_mode="rgb_array")
    envs.reset(seed=0, options={"frames": [0, 1]})
    frames = envs.render()
    assert frames is not None
    assert [frame.shape for frame in frames] == [(72, 96, 3), (96, 72, 3)]
    np.testing.assert_array_equal(frames[1], before)


def test_human_rendering_without_a_display_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.warns(UserWarning, match="needs a display"):
        env = make("Tune", render_mode="human")
    env.reset()
    env.step(np.zeros(2, np.float32))
    assert env.render() is None
    env.close()


def test_human_rendering_draws_neutral_and_current_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(plt, "pause", lambda seconds: None)
    env = make("Tune", render_mode="human")
    env.reset(options={"frame": 0})
    env.step(np.float32([1.0, 0.0]))
    left, right = (axis.get_images()[0].get_array() for axis in plt.gcf().axes)
    assert right.mean() > left.mean()
    env.close()
    env.close()
    assert not plt.get_fignums()


@pytest.mark.parametrize("task", TASKS)
def test_a_spec_survives_pickling(task: str) -> None:
    spec = pickle.loads(pickle.dumps(gym.make(f"isp_env/{task}-v0", core=small_core()).spec))
    env = gym.make(spec)
    one, _ = env.reset(seed=3)
    other, _ = make(task).reset(seed=3)
    assert gym.utils.env_checker.data_equivalence(one, other)


def test_actions_outside_are_clipped_and_nan_is_refused() -> None:
    envs = make_vec("Tune", 2)
    envs.reset(seed=0)
    _, _, _, _, infos = envs.step(np.float32([[9.0, -9.0], [0.0, 0.0]]))
    np.testing.assert_allclose(infos["final_info"]["values"][0], [2.0, -1.0])
    with pytest.raises(InputError, match="NaN or infinity"):
        envs.step(np.float32([[np.nan, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        envs.step(np.zeros((3, 2), np.float32))


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize(
    "task, options, message",
    [
        ("Refine", {"horizon": 0}, "horizon"),
        ("Refine", {"step_size": 0.0}, "step_size"),
        ("Tune", {"render_mode": "ansi"}, "render_mode"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(task: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(task, **options)


def test_bad_batch_options_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="num_envs"):
        make_vec("Tune", 0)
    with pytest.raises(InputError, match="no window"):
        make_vec("Tune", 2, render_mode="human")
    envs = make_vec("Tune", 2)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="one number a slot"):
        envs.reset(options={"frames": [1]})
    with pytest.raises(InputError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, dtype=bool)})


def test_a_step_after_the_end_asks_for_reset() -> None:
    env = make("Tune")
    env.reset()
    env.step(np.zeros(2, np.float32))
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(2, np.float32))


def test_a_reward_that_turns_nan_is_named() -> None:
    def fragile(images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(1, 2, 3))
        return torch.where(means > 0.95, torch.nan, means)

    envs = make_vec("Tune", 5, core=small_core(fragile))
    envs.reset(seed=0)
    with pytest.raises(InputError, match="NaN or infinite"):
        envs.step(np.float32([[1.0, 0.0]] * 5) * 1.0)


def test_a_masked_action_space_is_refused_where_actions_are_continuous() -> None:
    env = make("Tune")
    env.reset()
    with pytest.raises(InputError, match="no mask"):
        env.action_masks()


def test_tensors_stay_tensors_and_agree_with_numpy() -> None:
    core = small_core()
    one, other = make_vec("Tune", 3, core=core), make_vec("Tune", 3, core=core)
    observation, _ = one.reset_tensors(seed=6)
    other.reset(seed=6)
    assert all(isinstance(rows, torch.Tensor) for rows in observation.values())
    actions = torch.rand(3, 2) * 2 - 1
    result = one.step_tensors(actions)
    expected = other.step(actions.numpy())
    np.testing.assert_array_equal(result.reward.numpy(), expected[1])
    assert result.terminated.all()
    assert result.final_observation is not None
    np.testing.assert_array_equal(result.final_observation["setting"], actions)


@pytest.mark.parametrize("tools", ["parameters", None])
@pytest.mark.parametrize("actions", ["multi_discrete", "discrete", "box"])
def test_every_action_code_passes_the_checkers(actions: str, tools: str | None) -> None:
    env = make("Tools", actions=actions, tools=tools, costs={"contrast": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        sb3_check_env(env)


def test_sb3_builds_and_runs_a_policy_on_the_observation() -> None:
    model = PPO("MultiInputPolicy", make("Refine"), n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.set_logger(Logger(None, []))  # its own would leave a folder in /tmp
    model.learn(8)
    action, _ = model.predict(make("Refine").reset(seed=0)[0])
    assert action.shape == (2,)
