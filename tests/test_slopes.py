"""Slopes: how a score rises with each parameter, at the neutral render and on the trail of an episode."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from attiqa.errors import InputError
from attiqa.model import load
from attiqa.rewards.guarded import GuardedReward
from attiqa.rewards.protocol import together
from attiqa.rewards.registry import build_reward
from isp_env.envs import Core
from isp_env.envs.refine import RefineEnv
from isp_env.envs.tune import TuneEnv
from isp_env.frame import RawBatch
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.slopes import carried_back, slopes_of, tracing
from tests.environments import make_vec
from tests.fakes import DistanceFromNeutral, RandomFrames, small_core

TRAIL = ("trail_setting", "trail_gain", "trail_slope", "trail_charge")
RAW = {"raw", "raw_color"}  # what is seen beside a trail
SIZES = ((72, 96), (96, 72), (72, 96), (80, 80))


class Even:
    """A reward that torch can differentiate: highest where an image is of one grey all over."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return -(images - 0.45).square().mean(dim=(1, 2, 3))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def real_core(reward: object, sizes: tuple[tuple[int, int], ...] = SIZES) -> Core:
    space = ParameterSpace(TUNE_PARAMETERS)
    return Core(RandomFrames(sizes), space, Pipeline(space), reward, short_side=72)  # type: ignore[arg-type]


def settings(core: Core, reach: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand((len(core), len(core.space)), generator=generator) * 2 - 1) * reach


def test_a_traced_render_has_the_same_pixels_whatever_is_neutral() -> None:
    space = ParameterSpace()
    pipeline = Pipeline(space)
    frames = [RandomFrames([(72, 96)] * 3).frame(number, 72) for number in range(3)]
    batch = RawBatch.stack(frames)
    moved = torch.rand((3, len(space)), generator=torch.Generator().manual_seed(1)) - 0.5
    moved[:, ::3] = 0.0
    for actions in (moved, torch.zeros_like(moved)):
        values = space.to_physical(actions)
        with tracing():
            traced = pipeline.traced(batch, values.requires_grad_())
        assert traced.requires_grad
        torch.testing.assert_close(traced.detach(), pipeline(batch, values.detach()), atol=2e-5, rtol=0)


@pytest.mark.parametrize("number", range(len(ParameterSpace())))
def test_slopes_are_those_of_renders_a_little_apart(number: int) -> None:
    space = ParameterSpace()
    pipeline = Pipeline(space)
    batch = RawBatch.stack([RandomFrames([(72, 96)]).frame(0, 72)])
    # in double precision nothing is lost to rounding; away from 0, where one-sided parameters have a corner
    batch = RawBatch(batch.image.double(), batch.white_balance.double(), batch.color_matrix.double())
    generator = torch.Generator().manual_seed(number)
    weights = torch.rand(batch.image.shape, generator=generator, dtype=torch.float64)
    actions = (torch.rand((1, len(space)), generator=generator) * 0.5 + 0.1).double()
    if space.names[number] != "clahe":  # its histograms are counts, which have no slope
        actions[:, space.names.index("clahe")] = 0.0
    values = space.to_physical(actions).double()

    def score(images: torch.Tensor) -> torch.Tensor:
        return (images * weights).mean(dim=(1, 2, 3))

    shown = pipeline(batch, values).requires_grad_()
    pixels = slopes_of(score(shown)[:, None], shown)
    with tracing():
        own = values.clone().requires_grad_()
        slope = carried_back(pixels, pipeline.traced(batch, own), own)[0, 0, number].item()
    step = torch.zeros_like(values)
    step[0, number] = 1e-4 * float(space.high[number] - space.low[number])
    above, below = (score(pipeline(batch, values + sign * step)) for sign in (1, -1))
    apart = ((above - below) / (2 * step[0, number])).item()
    assert slope == pytest.approx(apart, rel=0.02, abs=1e-5)


def test_the_bundled_rewards_slopes_point_uphill() -> None:
    core = real_core(build_reward("guarded:clip_weight=0"))  # clipped pixels are counted: that has none
    frames, actions = np.arange(len(core)), settings(core, 0.3)
    values = core.space.to_physical(actions)
    looked = core.look_at(frames, values, slopes=True)
    plain = core.look_at(frames, values)
    assert set(looked) == {*plain, "parts", "slope", "charge"}
    for name, rows in plain.items():
        torch.testing.assert_close(looked[name], rows, atol=1e-3 if rows.is_floating_point() else 1, rtol=0)
    torch.testing.assert_close(
        looked["potential"], together(looked["parts"], core.deviations) - looked["charge"]
    )
    # of the smaller of two views, which is what one deviation less than their mean is
    smaller = looked["parts"].argmin(dim=1)
    slope = looked["slope"][torch.arange(len(core)), smaller] * core.space.units_of(actions)
    step = 0.005 * torch.nn.functional.normalize(slope, dim=1)
    near = [core.space.to_physical(actions + sign * step) for sign in (1, -1)]
    above, below = (
        together(looked["parts"], core.deviations)
        for looked in (core.look_at(frames, values, slopes=True) for values in near)
    )
    assert bool((above > below).all())
    expected = 2 * 0.005 * slope.norm(dim=1)
    torch.testing.assert_close(above - below, expected, rtol=0.3, atol=1e-3)


def test_gradients_flow_through_a_model_only_where_they_are_asked_for() -> None:
    model = load("attiqa-mini")
    images = torch.rand(1, 3, 64, 64)
    assert not model.score(images).requires_grad
    assert model.score(images).is_inference()
    (slope,) = torch.autograd.grad(model.score(images.requires_grad_()).sum(), images)
    assert float(slope.abs().sum()) > 0


class Opaque:
    """A reward that is computed elsewhere."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(images.detach().numpy().mean(axis=(1, 2, 3)))


def test_what_has_no_slopes_is_refused_in_a_sentence() -> None:
    core = real_core(Opaque())
    values = core.space.to_physical(settings(core, 0.3))
    with pytest.raises(InputError, match=r"Opaque gives no gradient\. Go without slopes"):
        core.look_at(np.arange(len(core)), values, slopes=True)
    core = small_core()
    with pytest.raises(InputError, match="Brightness cannot be traced"):
        core.look_at(np.arange(2), core.space.neutral_values(2), slopes=True)


def test_refine_leaves_a_trail_of_its_looks() -> None:
    envs = make_vec("Refine", 4, core=real_core(Even()), trail=True)
    core = envs.task.core
    first, _ = envs.reset(seed=0)
    assert first["trail_slope"].shape == (4, 5, 1, len(core.space))
    moved = core.space.within(settings(core, 0.4)).numpy()
    seen, reward, *_ = envs.step(moved)
    np.testing.assert_allclose(seen["trail_setting"][:, 1], moved, atol=1e-6)
    np.testing.assert_allclose(seen["trail_gain"][:, 1, 0], reward, atol=1e-6)
    # it begins at the neutral render, whose slopes alone are not zero
    frames = envs.task.frames
    np.testing.assert_array_equal(first["trail_slope"][:, 0], core.neutral_slopes_of(frames))
    for name in TRAIL:
        np.testing.assert_array_equal(seen[name][:, 0], first[name][:, 0])
        np.testing.assert_array_equal(first[name][:, 1 if name == "trail_slope" else 0 :], 0.0)
        np.testing.assert_array_equal(seen[name][:, 2:], 0.0)
    # its slopes tell what a small change earns
    slope = seen["trail_slope"][:, 1, 0]
    change = 0.01 * slope / np.linalg.norm(slope, axis=1, keepdims=True)
    later, reward, *_ = envs.step(change)
    told = (slope * (later["setting"] - moved)).sum(axis=1)
    np.testing.assert_allclose(reward, told, rtol=0.3, atol=1e-5)
    assert (reward > 0).all()
    # the last look of an episode leaves none, and a new episode has looked at nothing but its neutral render
    for _ in range(3):
        seen = envs.step(np.zeros_like(moved))[0]
    for name in TRAIL:
        np.testing.assert_array_equal(seen[name][:, 1:], 0.0)
    np.testing.assert_array_equal(seen["trail_slope"][:, 0], core.neutral_slopes_of(envs.task.frames))
    assert not set(TRAIL) & set(make_vec("Refine", 2).reset(seed=0)[0])


def test_an_episode_ends_after_the_looks_that_are_wanted() -> None:
    """With the progress of longer ones; of its last look there are no slopes, which take most of the time."""
    core = real_core(Even())
    looked = []

    def look_at(*arguments: Any, **options: Any) -> Any:
        looked.append(options.get("slopes", False))
        return Core.look_at(core, *arguments, **options)

    core.look_at = look_at  # type: ignore[method-assign]
    envs = make_vec("Refine", 2, core=core, trail=True, looks=2)
    seen, _ = envs.reset(seed=0)
    moved = settings(core, 0.2).numpy()[:2]
    for ended in (False, True):
        seen, _, terminated, *_ = envs.step(moved)
        assert (terminated == ended).all()
        if not ended:
            np.testing.assert_allclose(seen["progress"], 0.2)
    assert looked == [True, False]
    with pytest.raises(InputError, match="may end after 1 to 5 of them; got 6"):
        make_vec("Refine", 2, core=core, looks=6)


def test_the_documented_trail_is_what_trail_adds() -> None:
    envs = make_vec("Refine", 2, core=real_core(Even()), trail=True)
    text = RefineEnv.__doc__ or ""
    table = text[text.index("## The trail") : text.index("## Info")]
    added = set(envs.single_observation_space.spaces) - set(make_vec("Refine", 2).single_observation_space)
    assert set(re.findall(r"^\s*\| (\w+) +\| Box", table, re.M)) == added == {*TRAIL, *RAW}


def test_the_trail_of_a_guarded_reward_tells_its_views_apart() -> None:
    reward = GuardedReward([Even()])
    core = real_core(reward)
    envs = make_vec("Refine", 4, core=core, trail=True)
    envs.reset(seed=0)
    seen, earned, *_ = envs.step(settings(core, 0.4).numpy())
    assert seen["trail_slope"].shape == (4, 5, 2, len(core.space))
    gains = torch.from_numpy(seen["trail_gain"][:, 1])
    assert float((gains[:, 0] - gains[:, 1]).abs().min()) > 0
    charged = seen["trail_charge"][:, 1]
    assert (charged > 0).any()
    np.testing.assert_allclose(together(gains, core.deviations).numpy() - charged, earned, atol=1e-5)


def test_the_raw_beside_a_trail_is_that_of_the_frame_whatever_its_shape() -> None:
    core = real_core(Even(), ((72, 96), (128, 72), (72, 96)))
    envs = make_vec("Refine", 3, core=core, trail=True)
    seen, _ = envs.reset(options={"frames": np.array([1, 2, 0])})
    for slot, number in enumerate((1, 2, 0)):
        frame = RandomFrames(((72, 96), (128, 72), (72, 96))).frame(number, 72)
        height, width = frame.image.shape[1:]
        rows, columns = ((np.arange(64) + 0.5) * side // 64 for side in (height, width))
        expected = frame.image.numpy()[:, rows.astype(int)[:, None], columns.astype(int)]
        # threads that decode compute alone: last bits of the stand-in's resampling differ
        np.testing.assert_allclose(seen["raw"][slot], expected, atol=1e-6)
        np.testing.assert_array_equal(seen["raw_color"][slot, 0], frame.white_balance)
        np.testing.assert_array_equal(seen["raw_color"][slot, 1:], frame.color_matrix)


def test_a_setting_stays_on_the_side_that_does_something() -> None:
    envs = make_vec("Refine", 4, core=real_core(Even()))
    envs.reset(seed=0)
    seen = envs.step(np.full((4, len(TUNE_PARAMETERS)), -1.0, np.float32))[0]
    one_sided = np.array([name.startswith(("denoise", "sharpen")) for name in TUNE_PARAMETERS])
    np.testing.assert_array_equal(seen["setting"], np.where(one_sided, 0.0, -1.0)[None].repeat(4, axis=0))


def test_a_restored_batch_has_the_same_trail() -> None:
    core = real_core(Even())
    envs = make_vec("Refine", 3, core=core, trail=True)
    envs.reset(seed=0)
    moved = settings(core, 0.4).numpy()[:3]
    seen = envs.step(moved)[0]
    again = make_vec("Refine", 3, core=core, trail=True)
    again.restore(envs.state())
    for name in TRAIL:
        np.testing.assert_array_equal(again.task.observe()[name], seen[name])
    for each, other in zip(envs.step(0 * moved)[0].items(), again.step(0 * moved)[0].items(), strict=True):
        np.testing.assert_allclose(each[1], other[1], atol=1e-5, err_msg=each[0])


def test_a_reward_of_ones_own_in_torch_has_slopes() -> None:
    core = real_core(DistanceFromNeutral())
    looked = core.look_at(np.arange(2), core.space.to_physical(settings(core, 0.3)[:2]), slopes=True)
    assert looked["slope"].shape == (2, 1, len(core.space))
    assert bool((looked["slope"].abs().sum(dim=2) > 0).all())


def test_slopes_at_the_neutral_render_are_the_mean_of_its_parts_slopes() -> None:
    core = real_core(GuardedReward([Even()]))
    frames, still = np.array([2, 0, 2]), torch.zeros((3, len(core.space)))
    looked = core.look_at(frames, core.space.to_physical(still), observe=False, slopes=True)
    expected = looked["slope"].mean(dim=1) * core.space.units_of(still)
    slope = core.neutral_slope_of(frames)
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-6)
    assert float((slope[0] - slope[1]).abs().max()) > 1e-4
    # who asks first, and in which company, makes no difference to the last bit
    other = real_core(GuardedReward([Even()]))
    everywhere = other.neutral_slope_of(np.arange(len(other)))
    torch.testing.assert_close(everywhere[frames], slope, rtol=0, atol=0)


@pytest.mark.parametrize("task", ["Tune", "Refine"])
def test_an_episode_sees_the_slopes_of_its_own_frame(task: str) -> None:
    core = real_core(Even())
    envs = make_vec(task, 3, core=core, slopes=True)
    frames = np.array([3, 1, 0])
    seen, _ = envs.reset(options={"frames": frames})
    assert envs.single_observation_space["slope"].shape == (len(core.space),)
    np.testing.assert_array_equal(seen["slope"], core.neutral_slope_of(frames))
    later, *_ = envs.step(settings(core, 0.3).numpy()[:3])
    if task == "Refine":
        np.testing.assert_array_equal(later["slope"], seen["slope"])
    # they tell what a small change earns; the other parameters have corners at the neutral setting
    smooth = [core.space.names.index(name) for name in ("exposure", "shadows", "tone_midtones", "contrast")]
    everything = np.arange(len(core))
    for number in smooth:
        step = torch.zeros((len(core), len(core.space)))
        step[:, number] = 0.01
        gain = core.potential_of(everything, core.space.to_physical(step)) - core.neutral["potential"]
        slope = core.neutral_slope_of(everything)[:, number]
        torch.testing.assert_close(gain, 0.01 * slope, rtol=0.05, atol=1e-6)
    assert "slope" not in make_vec(task, 2).reset(seed=0)[0]


def test_the_documented_slopes_are_what_slopes_add() -> None:
    text = TuneEnv.__doc__ or ""
    table = text[text.index("## Slopes") : text.index("## Starting state")]
    with_slopes, without = (
        set(make_vec("Tune", 2, core=real_core(Even()), slopes=slopes).single_observation_space)
        for slopes in (True, False)
    )
    assert set(re.findall(r"^\s*\| (\w+) +\| Box", table, re.M)) == with_slopes - without == {"slope"}


def test_an_environment_that_cannot_show_slopes_says_so() -> None:
    with pytest.raises(InputError, match="Opaque gives no gradient"):
        make_vec("Tune", 2, core=real_core(Opaque()), slopes=True).reset(seed=0)
