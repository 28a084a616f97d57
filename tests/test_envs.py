"""The Gymnasium environments: checkers, seeds, batches, episodes, rendering, specs."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.logger import Logger

import isp_env  # noqa: F401  (registers the environments)
from attiqa.errors import InputError
from isp_env.envs import IspEnv, IspVectorEnv, ToolsEnv, TuneEnv
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.toolset import TOOLS
from tests.fakes import MeanGrey, RandomFrames, small_core

TASKS = ["Tune", "Refine", "Tools"]


def make(task: str, **options: Any) -> IspEnv:
    options.setdefault("core", small_core())
    env = gym.make(f"isp_env/{task}-v0", **options).unwrapped
    assert isinstance(env, IspEnv)
    return env


def make_vec(task: str, num_envs: int, **options: Any) -> IspVectorEnv:
    options.setdefault("core", small_core())
    envs = gym.make_vec(f"isp_env/{task}-v0", num_envs=num_envs, **options)
    assert isinstance(envs, IspVectorEnv)
    return envs


def actions_for(envs: IspVectorEnv, steps: int) -> list[np.ndarray]:
    envs.action_space.seed(3)
    return [envs.action_space.sample() for _ in range(steps)]


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


def test_tune_pays_the_gain_over_neutral_and_nothing_for_the_neutral_action() -> None:
    core = small_core()
    envs = make_vec("Tune", 5, core=core)
    frames = np.arange(5)
    envs.reset(seed=0, options={"frames": frames})
    assert np.abs(envs.step(np.zeros((5, 2), np.float32))[1]).max() < 1e-7
    envs.reset(options={"frames": frames})
    actions = np.tile(np.float32([0.25, 0.0]), (5, 1))
    _, rewards, terminated, _, infos = envs.step(actions)
    expected = core.potential_of(frames, torch.tensor([[0.5, 0.0]] * 5)) - core.neutral["potential"]
    np.testing.assert_allclose(rewards, expected, atol=1e-7)
    assert terminated.all()
    final = infos["final_info"]
    np.testing.assert_allclose(final["values"], [[0.5, 0.0]] * 5)
    np.testing.assert_allclose(final["potential"] - final["neutral_potential"], rewards, atol=1e-7)


def test_tune_scores_each_image_once_and_never_the_neutral_one_again() -> None:
    reward = MeanGrey()
    envs = make_vec("Tune", 4, core=small_core(reward))
    assert reward.scored == 5
    envs.reset(seed=0)
    for actions in actions_for(envs, 3):
        envs.step(actions)
    assert reward.scored == 5 + 3 * 4


def test_refine_rewards_telescope_and_each_state_is_scored_once() -> None:
    reward = MeanGrey()
    core = small_core(reward)
    envs = make_vec("Refine", 3, core=core, horizon=4, step_size=0.3)
    envs.reset(seed=1)
    reward.scored = 0
    total, setting = np.zeros(3), np.zeros((3, 2), np.float32)
    for number, actions in enumerate(actions_for(envs, 4)):
        observation, rewards, terminated, _, infos = envs.step(actions)
        total += rewards
        setting = np.clip(setting + np.float32(0.3) * actions, -1, 1)
        assert terminated.all() == (number == 3)
        if number < 3:
            np.testing.assert_allclose(observation["setting"], setting, atol=1e-6)
            np.testing.assert_allclose(observation["progress"], (number + 1) / 4)
    final = infos["final_info"]
    np.testing.assert_allclose(total, final["potential"] - final["neutral_potential"], atol=1e-6)
    np.testing.assert_allclose(infos["final_obs"][1]["setting"], setting[1], atol=1e-6)
    assert reward.scored == 12


def test_refine_starts_anew_only_where_asked() -> None:
    envs = make_vec("Refine", 3)
    envs.reset(seed=1)
    first = envs.step(np.ones((3, 2), np.float32))[0]
    mask = np.array([False, True, False])
    observation, infos = envs.reset(options={"reset_mask": mask, "frames": [0, 3, 0]})
    assert infos["frame"][1] == 3
    np.testing.assert_array_equal(observation["progress"][:, 0] == 0, mask)
    np.testing.assert_array_equal(observation["thumbnail"][~mask], first["thumbnail"][~mask])


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


def test_reinforce_finds_the_known_best_exposure() -> None:
    frame, exposure = np.array([0]), torch.tensor([[1.0, 0.0]])
    plain = small_core(sizes=[(72, 72)])
    core = small_core(MeanGrey(plain.render_of(frame, exposure)[0].mean().item()), sizes=[(72, 72)])
    envs = make_vec("Tune", 32, core=core)
    mean = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([mean], lr=0.05)
    envs.reset_tensors(seed=0)
    for _ in range(80):
        policy = torch.distributions.Normal(mean, 0.2)
        actions = policy.sample((32,))
        reward = envs.step_tensors(actions).reward
        advantage = (reward - reward.mean()) / reward.std()
        loss = -(policy.log_prob(actions).sum(dim=1) * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # exposure runs from -2 to 2 EV, so the best action is 0.5
    assert abs(mean[0].item() - 0.5) < 0.1


@pytest.mark.parametrize("tools", ["parameters", None])
@pytest.mark.parametrize("actions", ["multi_discrete", "discrete", "box"])
def test_every_action_code_passes_the_checkers(actions: str, tools: str | None) -> None:
    env = make("Tools", actions=actions, tools=tools, costs={"contrast": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        sb3_check_env(env)


def test_tools_set_parameters_and_render_from_the_raw() -> None:
    core = small_core()
    env = make("Tools", core=core, tools="parameters", render_mode="rgb_array", levels=2)
    env.reset(options={"frame": 1})
    before = env.render()
    _, reward, over, _, info = env.step(np.array([1, 1]))
    assert not over
    np.testing.assert_array_equal(info["order"], [1, 0])
    expected = core.potential_of(np.array([1]), torch.tensor([[2.0, 0.0]])) - core.neutral["potential"][1]
    assert reward == pytest.approx(expected.item(), abs=1e-6)
    assert env.render().mean() > before.mean()
    assert env.action_masks().tolist() == [True, False, True, True, True]
    assert env.step(np.array([0, 0]))[1:3] == (0.0, True)


def test_the_default_tools_are_the_documented_tool_set() -> None:
    env = make("Tools", levels=2)
    assert env.task.tools.names == tuple(tool.name for tool in TOOLS)
    rows = re.findall(r"^\s*\| (\d+) +\| (\w+) +\| (.+?) +\|$", ToolsEnv.__doc__ or "", re.M)
    assert [(int(number), name, doc) for number, name, doc in rows] == [
        (number, tool.name, tool.doc) for number, tool in enumerate(TOOLS)
    ]
    env.reset(options={"frame": 0}, seed=0)
    before = env.task.images()[0]
    env.step(np.array([1 + env.task.tools.names.index("exposure"), 1]))
    assert env.task.images()[0].mean() > before.mean()


def test_tools_are_chosen_by_name_or_one_for_each_named_parameter() -> None:
    assert make("Tools", tools=["box", "gamma"]).task.tools.names == ("box", "gamma")
    assert make("Tools", tools="median").task.tools.names == ("median",)
    source = RandomFrames([(72, 72)])
    env = make("Tools", core=None, source=source, reward=MeanGrey(), parameters=["tint"], short_side=72)
    assert env.task.tools.names == ("tint",)
    with pytest.raises(InputError, match="expected tools by name"):
        make("Tools", tools="saw")


def test_sb3_builds_and_runs_a_policy_on_the_observation() -> None:
    model = PPO("MultiInputPolicy", make("Refine"), n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.set_logger(Logger(None, []))  # its own would leave a folder in /tmp
    model.learn(8)
    action, _ = model.predict(make("Refine").reset(seed=0)[0])
    assert action.shape == (2,)


def test_the_documented_action_table_is_the_parameter_table() -> None:
    rows = re.findall(
        r"^\s*\| (\d+) \| (\w+) \| ([^|]+) \| (\S+) \| (\S+) \| (\S+) \|$", TuneEnv.__doc__ or "", re.M
    )
    space = ParameterSpace(TUNE_PARAMETERS)
    expected = [
        (str(number), row.name, row.unit or "-", f"{row.low:g}", f"{row.neutral:g}", f"{row.high:g}")
        for number, row in enumerate(space.parameters)
    ]
    assert rows == expected


@pytest.mark.parametrize("task", TASKS)
def test_the_documented_observation_table_is_the_observation_space(task: str) -> None:
    env = make(task)
    text = type(env).__doc__ or ""
    table = text[text.index("## Observation space") : text.index("## Rewards")]
    assert set(re.findall(r"^\s*\| (\w+) +\| (?:Box|MultiBinary)", table, re.M)) == set(
        env.observation_space.spaces
    )


def test_without_a_source_the_embedded_scenes_are_rendered_by_the_real_pipeline() -> None:
    envs = gym.make_vec("isp_env/Tune-v0", num_envs=3, reward=MeanGrey(), short_side=64)
    assert isinstance(envs, IspVectorEnv)
    envs.reset(seed=0)
    assert envs.single_action_space.shape == (len(TUNE_PARAMETERS),)
    assert np.abs(envs.step(np.zeros((3, len(TUNE_PARAMETERS)), np.float32))[1]).max() < 1e-6
    for actions in actions_for(envs, 3):
        observation, rewards, *_ = envs.step(actions)
        assert observation in envs.observation_space
        assert np.isfinite(rewards).all()


def test_a_source_may_be_a_folder_of_raws_or_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTIQA_CACHE", str(tmp_path / "cache"))
    for name, size in (("a", (80, 64)), ("b", (64, 80))):
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    env = gym.make("isp_env/Refine-v0", source=tmp_path, reward=MeanGrey(), short_side=64)
    _, info = env.reset(seed=0, options={"frame": 1})
    assert info["name"] == "b"
    with pytest.raises(InputError, match="does not exist"):
        gym.make("isp_env/Tune-v0", source=tmp_path / "nowhere", reward=MeanGrey())
