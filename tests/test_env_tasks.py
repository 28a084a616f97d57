"""What the tasks pay, where they start, their tools, their documented tables, their sources."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from isp_env.envs import IspVectorEnv, ToolsEnv, TuneEnv
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.toolset import TOOLS
from tests.environments import TASKS, actions_for, make, make_vec
from tests.fakes import MeanGrey, RandomFrames, small_core


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
