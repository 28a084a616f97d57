"""Slopes: how a score rises with each parameter, and agents that go that way."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import train_isp
from agents.checkpoint import load_checkpoint
from agents.dpg import PACE, roots
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.playing import answers, envs_of, first_look, make_envs, play
from agents.policy_file import load_policy
from agents.portable import PortablePolicy
from agents.runs import CHECKPOINT
from attiqa.errors import InputError
from attiqa.model import load
from attiqa.rewards.registry import build_reward
from isp_env.envs import Core
from isp_env.frame import RawBatch
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.slopes import slopes_of, tracing
from tests.environments import make_vec
from tests.fakes import DistanceFromNeutral, RandomFrames, small_core

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

    with tracing():
        own = values.clone().requires_grad_()
        slope = slopes_of(score(pipeline.traced(batch, own)), own)[0, number].item()
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
    assert set(looked) == {*plain, "slope"}
    for name, rows in plain.items():
        torch.testing.assert_close(looked[name], rows, atol=1e-3 if rows.is_floating_point() else 1, rtol=0)
    slope = looked["slope"] * core.space.units_of(actions)
    step = 0.005 * torch.nn.functional.normalize(slope, dim=1)
    above, below = (
        core.potential_of(frames, core.space.to_physical(actions + sign * step)) for sign in (1, -1)
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


def test_refine_shows_the_way_uphill_after_the_first_step() -> None:
    envs = make_vec("Refine", 4, core=real_core(Even()), slopes=True)
    core = envs.task.core
    first, _ = envs.reset(seed=0)
    assert first["uphill"].shape == (4, len(core.space))
    np.testing.assert_array_equal(first["uphill"], 0.0)
    setting = settings(core, 0.4).numpy()
    seen = envs.step(setting)[0]
    np.testing.assert_allclose(np.linalg.norm(seen["uphill"], axis=1), 1.0, atol=1e-5)
    before = core.potential_of(envs.task.frames, core.space.to_physical(torch.from_numpy(setting)))
    later, reward, *_ = envs.step(0.05 * seen["uphill"])
    assert (reward > 0).all()
    after = core.potential_of(envs.task.frames, core.space.to_physical(torch.from_numpy(later["setting"])))
    np.testing.assert_allclose(after - before, reward, atol=1e-6)
    # a new episode has seen nothing yet
    for _ in range(3):
        seen = envs.step(np.zeros_like(setting))[0]
    np.testing.assert_array_equal(seen["uphill"], 0.0)
    assert "uphill" not in make_vec("Refine", 2).reset(seed=0)[0]


def test_the_way_uphill_stays_inside_the_limits() -> None:
    envs = make_vec("Refine", 4, core=real_core(Even()), slopes=True)
    envs.reset(seed=0)
    far = np.ones((4, len(TUNE_PARAMETERS)), np.float32)
    far[:, ::2] = -1.0
    seen = envs.step(far)[0]
    assert (seen["uphill"] * far <= 0).all()
    assert (seen["uphill"] != 0).any(axis=1).all()


def test_a_restored_batch_sees_the_same_way() -> None:
    core = real_core(Even())
    envs = make_vec("Refine", 3, core=core, slopes=True)
    envs.reset(seed=0)
    moved = settings(core, 0.4).numpy()[:3]
    seen = envs.step(moved)[0]
    again = make_vec("Refine", 3, core=core, slopes=True)
    again.restore(envs.state())
    for each, other in zip(envs.step(0 * moved)[0].items(), again.step(0 * moved)[0].items(), strict=True):
        np.testing.assert_allclose(each[1], other[1], atol=1e-5, err_msg=each[0])
    np.testing.assert_allclose(again.task.observe()["uphill"], seen["uphill"], atol=1e-5)


def experiment(run: Path, **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    core = real_core(Even())
    arguments: dict[str, object] = {"steps": 160, "num_envs": 8, "algo": "dpg", "task": "refine"} | options
    bench = Bench(core, lambda images: images.mean(dim=(1, 2, 3)))
    slopes = arguments["task"] == "refine"
    return Experiment(run, core, bench, slopes=slopes, **arguments)  # type: ignore[arg-type]


def test_an_unlearnt_policy_goes_uphill_at_a_falling_pace(tmp_path: Path) -> None:
    built = experiment(tmp_path / "run")
    env = make_envs("refine", built.bench.core, len(SIZES), "dpg", slopes=True)
    seen = first_look(env, np.arange(len(SIZES)))

    def chosen() -> np.ndarray:
        return np.asarray(built.model.predict(seen, deterministic=True)[0])  # type: ignore[arg-type]

    np.testing.assert_array_equal(chosen(), 0.0)  # the identity at the start
    seen = env.seen(env.env.step_tensors(settings(built.bench.core, 0.3).numpy()).observation)
    for look in range(1, 5):
        pace = PACE[0] + (PACE[1] - PACE[0]) * look / 5
        way = roots(torch.from_numpy(seen["uphill"])).numpy()
        np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(chosen(), np.tanh(pace * way), atol=1e-6)
        seen = env.seen(env.env.step_tensors(chosen()).observation)


def test_a_policy_that_sees_slopes_is_trained_resumed_stored_and_played(tmp_path: Path) -> None:
    tune = experiment(tmp_path / "tune", task="tune", steps=256, algo="dpg")
    tune.about = {"short_side": 72}
    tune.train()
    tune.conclude({"neutral": tune.bench.neutral(), "policy": tune.policy()}, 1.0)
    first = load_policy(tmp_path / "tune")
    assert "uphill" not in first.sees
    whole = experiment(tmp_path / "whole", first=first)
    whole.train()
    half = experiment(tmp_path / "half", first=first, steps=80)
    half.train()
    rest = experiment(tmp_path / "half", first=first, seed=5, continued=True)
    load_checkpoint(tmp_path / "half" / CHECKPOINT, rest.model)
    for name, value in half.model.policy.state_dict().items():
        torch.testing.assert_close(rest.model.policy.state_dict()[name], value, rtol=0, atol=0)
    whole.conclude({"neutral": whole.bench.neutral(), "policy": whole.policy()}, 1.0)
    stored = load_policy(tmp_path / "whole")
    assert "uphill" in stored.sees
    core, frames = whole.bench.core, np.arange(len(SIZES))
    answer, steps = play(envs_of(stored, core), frames, stored.act)
    assert steps == 5
    np.testing.assert_allclose(whole.policy().gains, whole.bench.at(answer, steps).gains, atol=1e-6)
    # the best look so far never falls, and looking again has helped
    gains = [
        whole.bench.at(look, 1).gains.mean() for look in answers(envs_of(stored, core), frames, stored.act)
    ]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(gains))
    assert gains[-1] > gains[0] + 1e-4
    with pytest.raises(InputError, match="sees uphill, which this export does not measure"):
        PortablePolicy(stored, load("attiqa-mini"), (72, 96))


def test_slopes_belong_to_refine(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_isp.main(["--slopes"]) == 2
    assert "--slopes belongs to --task refine" in capsys.readouterr().err


def test_a_reward_of_ones_own_in_torch_has_slopes() -> None:
    core = real_core(DistanceFromNeutral())
    looked = core.look_at(np.arange(2), core.space.to_physical(settings(core, 0.3)[:2]), slopes=True)
    assert bool((looked["slope"].abs().sum(dim=1) > 0).all())
