"""Climbing a picture's reward by values and slopes: the process, the search on it, and runs that learn it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import multivariate_normal
from sklearn.gaussian_process.kernels import Matern

from agents import climb, train_isp
from agents.answers import Settings
from agents.charges import Charges
from agents.checkpoint import load_checkpoint
from agents.climb import GRID, HILL, ClimbPolicy, Trail, ascend
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.playing import best_so_far, envs_of, first_look, looks_of, make_envs, play
from agents.policy import StandardisedExtractor
from agents.policy_file import CARD, StoredPolicy, load_policy
from agents.portable import PortablePolicy
from agents.process import SettingsProcess
from agents.runs import CHECKPOINT
from attiqa.errors import InputError
from attiqa.model import load
from attiqa.rewards.guarded import GuardedReward
from isp_env.envs import Core
from isp_env.frame import RawBatch
from tests.test_slopes import SIZES, Even, Opaque, real_core

LENGTHS, SCALE = (0.4, 0.7, 1.5), 0.1


def known_process() -> SettingsProcess:
    process = SettingsProcess(len(LENGTHS))
    with torch.no_grad():
        process.log_lengths.copy_(torch.tensor(LENGTHS).log())
        process.log_scale.copy_(torch.tensor(SCALE).log())
    return process


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def test_values_and_slopes_vary_together_as_sklearns_matern_kernel_says() -> None:
    process = known_process()
    left, right = drawn(1, 3, 3), drawn(1, 2, 3, seed=1)
    covariance = process.covariance(left, right)[0].detach().numpy().reshape(3, 4, 2, 4)
    kernel = Matern(length_scale=LENGTHS, nu=2.5)
    x, y, step = left[0].numpy(), right[0].numpy(), 1e-4

    def apart(sign_x: float, axis_x: int | None, sign_y: float, axis_y: int | None) -> np.ndarray:
        moved_x, moved_y = x.copy(), y.copy()
        if axis_x is not None:
            moved_x[:, axis_x] += sign_x * step
        if axis_y is not None:
            moved_y[:, axis_y] += sign_y * step
        found: np.ndarray = SCALE**2 * kernel(moved_x, moved_y)
        return found

    np.testing.assert_allclose(covariance[:, 0, :, 0], apart(0, None, 0, None), rtol=1e-5)
    for axis in range(3):
        by_y = (apart(0, None, 1, axis) - apart(0, None, -1, axis)) / (2 * step)
        np.testing.assert_allclose(covariance[:, 0, :, 1 + axis], by_y, atol=1e-6)
        by_x = (apart(1, axis, 0, None) - apart(-1, axis, 0, None)) / (2 * step)
        np.testing.assert_allclose(covariance[:, 1 + axis, :, 0], by_x, atol=1e-6)
        for other in range(3):
            both = [
                sign_x * sign_y * apart(sign_x, axis, sign_y, other)
                for sign_x, sign_y in itertools.product((1, -1), repeat=2)
            ]
            expected = sum(both) / (4 * step**2)
            np.testing.assert_allclose(covariance[:, 1 + axis, :, 1 + other], expected, atol=1e-5)


def test_the_misfit_is_scipys_likelihood_of_the_same_gaussian() -> None:
    process = known_process()
    settings, gains, slopes = drawn(2, 3, 3), drawn(2, 3, 2, seed=1) * 0.2, drawn(2, 3, 2, 3, seed=2) * 0.2
    found = process.misfit(settings, gains, slopes).detach().numpy()
    noise = np.r_[0.01, [0.02] * 3] ** 2
    for row in range(2):
        covariance = process.covariance(settings, settings)[row].detach().numpy() + np.diag(np.tile(noise, 3))
        told = [np.c_[gains[row, :, k].numpy() - 0.05, slopes[row, :, k].numpy()].ravel() for k in range(2)]
        likelihood = multivariate_normal(cov=covariance).logpdf(told).sum()
        assert found[row] == pytest.approx(-likelihood - 12 * np.log(2 * np.pi), rel=1e-5)


def test_what_was_told_is_expected_again_with_little_doubt() -> None:
    process = known_process()
    with torch.no_grad():
        process.log_noise.fill_(-12.0)
        process.log_slope_noise.fill_(-12.0)
    settings, gains, slopes = drawn(1, 3, 3), drawn(1, 3, 1, seed=1) * 0.2, drawn(1, 3, 1, 3, seed=2) * 0.2
    expects = process.expects(settings, gains, slopes)
    for look in range(3):
        setting = settings[:, look].clone().requires_grad_()
        mean, deviation = expects(setting)
        (slope,) = torch.autograd.grad(mean.sum(), setting)
        assert mean.item() == pytest.approx(gains[0, look, 0].item(), abs=1e-4)
        assert deviation.item() < 1e-3
        np.testing.assert_allclose(slope, slopes[:, look, 0], atol=1e-4)
    far = torch.full((1, 3), 50.0, dtype=torch.float64)
    mean, deviation = expects(far)
    assert mean.item() == pytest.approx(0.05, abs=1e-6)  # nothing is known there
    assert deviation.item() == pytest.approx(SCALE, abs=1e-6)


def test_the_ascent_stays_within_reach_and_inside_the_limits() -> None:
    start = torch.tensor([[0.9, 0.0], [0.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
    goal, lengths = torch.tensor([2.0, 0.3], dtype=torch.float64), torch.tensor([1.0, 0.5])

    def promise(setting: torch.Tensor) -> torch.Tensor:
        return -(setting - goal).square().sum(dim=1)

    found = ascend(promise, start, lengths.double(), 0.6)
    assert bool((found.abs() <= 1.0).all())
    distance = torch.linalg.vector_norm((found - start) / lengths, dim=1)
    assert bool((distance <= 0.6 + 1e-9).all())
    assert bool((promise(found) > promise(start)).all())
    assert distance[1].item() == pytest.approx(0.6, abs=1e-6)  # the goal lies beyond
    assert found[0, 0].item() == pytest.approx(1.0, abs=1e-6)


def policy_over(parameters: int, parts: int = 1, horizon: int = 5) -> ClimbPolicy:
    """A policy whose first look is neutral, and that has learnt nothing."""
    limit = np.finfo(np.float32).max
    sees = {
        "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
        "setting": spaces.Box(-1.0, 1.0, (parameters,), np.float32),
        "trail_setting": spaces.Box(-1.0, 1.0, (horizon, parameters), np.float32),
        "trail_gain": spaces.Box(-limit, limit, (horizon, parts), np.float32),
        "trail_slope": spaces.Box(-limit, limit, (horizon, parts, parameters), np.float32),
        "trail_charge": spaces.Box(0.0, limit, (horizon,), np.float32),
    }
    acts = spaces.Box(-1.0, 1.0, (parameters,), np.float32)
    policy = ClimbPolicy(spaces.Dict(sees), acts, lambda _: 1e-3, [8], StandardisedExtractor)
    for parameter in policy.first.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    return policy


Reward = Callable[[torch.Tensor], torch.Tensor]  # settings (B, P) to parts (B, K)


def climbed(policy: ClimbPolicy, reward: Reward, frames: int, horizon: int = 5) -> np.ndarray:
    """The parts of the reward ``(T, B, K)`` at the looks of a policy."""
    parameters = policy.action_space.shape[0]
    parts = policy.observation_space["trail_gain"].shape[1]
    seen = {
        name: np.zeros((frames, *space.shape), np.float32)
        for name, space in policy.observation_space.spaces.items()
    }
    gains = []
    for look in range(horizon + 1):
        change = policy.predict(seen, deterministic=look > 1)[0] if look else 0.0  # type: ignore[arg-type]
        setting = torch.from_numpy(np.float32(np.clip(seen["setting"] + change, -1, 1))).requires_grad_()
        gained = reward(setting)
        slopes = [
            torch.autograd.grad(gained[:, k].sum(), setting, retain_graph=True)[0] for k in range(parts)
        ]
        gains.append(gained.detach().numpy())
        new = (setting.detach().numpy(), gains[-1], torch.stack(slopes, dim=1).numpy())
        if look < horizon:  # the first of them is the neutral render
            for name, rows in zip(("trail_setting", "trail_gain", "trail_slope"), new, strict=True):
                seen[name][:, look] = rows
        seen["setting"] = new[0].reshape(frames, parameters)
        seen["progress"][:] = look / horizon
    return np.stack(gains[1:])


def test_five_looks_find_nearly_the_peak_of_a_smooth_reward() -> None:
    peaks = drawn(16, 6).float() * 0.35

    def reward(setting: torch.Tensor) -> torch.Tensor:
        return 0.1 - 0.3 * (setting - peaks).square().sum(dim=1, keepdim=True)

    gains = climbed(policy_over(6), reward, 16)[..., 0]
    at_first, best = gains[0], gains.max(axis=0)
    np.testing.assert_allclose(at_first, 0.1 - 0.3 * peaks.square().sum(dim=1), atol=1e-6)
    assert ((best - at_first).sum() / (0.1 - at_first).sum()) > 0.95


def test_the_smaller_of_two_parts_is_climbed_along_its_edge() -> None:
    """Steps along the slope of the smaller part cross the edge to and fro; the policy sees both sides."""
    edge = torch.tensor([1.0, -1.0, 0.5, 0.0])
    peak = torch.tensor([0.3, 0.3, -0.3, 0.3])

    def reward(setting: torch.Tensor) -> torch.Tensor:
        across = (setting * edge).sum(dim=1, keepdim=True)
        along = 0.1 - 0.1 * (setting - peak).square().sum(dim=1, keepdim=True)
        return torch.cat([along + 0.4 * across, along - 0.4 * across], dim=1)

    policy = policy_over(4, parts=2)
    policy.deviations.fill_(1.0)  # with two parts: their minimum
    gains = climbed(policy, reward, 1).min(axis=-1)[:, 0]
    setting = torch.zeros(1, 4)
    steps = []
    for pace in (0.0, 0.35, 0.3, 0.25, 0.2):  # as long as the policy's own at most
        own = setting.clone().requires_grad_()
        (slope,) = torch.autograd.grad(reward(own).min(dim=1).values.sum(), own)
        setting = setting + pace * torch.nn.functional.normalize(slope, dim=1)
        steps.append(reward(setting).min().item())
    assert gains[0] == pytest.approx(steps[0], abs=1e-6)
    best_on_edge = 0.1 - 0.1 * float((peak @ edge) ** 2 / edge.square().sum())
    assert gains.max() - gains[0] > 0.7 * (best_on_edge - gains[0])
    assert gains.max() - gains[0] > 1.5 * (max(steps) - steps[0])


def test_an_answer_does_not_depend_on_who_shares_the_batch() -> None:
    peaks = drawn(5, 4).float() * 0.5

    def reward_of(rows: slice) -> Reward:
        return lambda setting: 0.1 - 0.3 * (setting - peaks[rows]).square().sum(dim=1, keepdim=True)

    policy = policy_over(4)
    together = climbed(policy, reward_of(slice(None)), 5)
    alone = climbed(policy, reward_of(slice(2, 3)), 1)
    np.testing.assert_allclose(together[:, 2:3], alone, atol=1e-5)


def test_the_kernel_learns_how_far_functions_run_along_each_parameter() -> None:
    """Functions are drawn from a known process and seen at four settings each; it is found again."""
    process, found = known_process(), SettingsProcess(len(LENGTHS))
    settings = drawn(200, 4, 3) * 0.8
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        factor = torch.linalg.cholesky(process.covariance(settings, settings) + 1e-6 * torch.eye(16))
        drawn_values = factor @ torch.randn(200, 16, 1, generator=generator, dtype=torch.float64)
    gains, slopes = drawn_values.view(200, 4, 4).split([1, 3], dim=2)
    optimizer = torch.optim.Adam(found.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        found.misfit(settings, gains, slopes[:, :, None]).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(found.log_lengths.detach().exp(), LENGTHS, rtol=0.2)
    assert found.log_scale.exp().item() == pytest.approx(SCALE, rel=0.2)


def told(settings: list[list[float]], gains: list[float], slope: list[float], charges: list[float]) -> Trail:
    """Of one picture and one part, of which all slopes are alike."""
    rows = [torch.tensor(each, dtype=torch.float64)[None] for each in (settings, gains, slope, charges)]
    return Trail(rows[0], rows[1][..., None], rows[2].expand(1, len(settings), 1, -1), rows[3])


def from_a_tenth_on(setting: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A charge that rises with the first parameter, faster than scores do here."""
    beyond = setting - torch.tensor([0.1, 1.0])
    return beyond[:, 0].clamp(min=0.0), (beyond > 0).to(setting)


def test_what_is_charged_for_is_known_before_it_is_tried() -> None:
    policy, looked = policy_over(2), told([[0.0, 0.0]], [0.0], [0.3, 0.0], [0.0])
    assert policy.next_setting(looked)[0, 0] > 0.2
    assert policy.next_setting(looked, from_a_tenth_on)[0, 0].item() == pytest.approx(0.1, abs=0.03)
    top = torch.tensor([[0.3, 0.0]], dtype=torch.float64)
    assert policy.next_setting(looked, top=top)[0, 0] > 0.25
    assert policy.next_setting(looked, from_a_tenth_on, top)[0, 0].item() == pytest.approx(0.1, abs=0.03)


def test_it_goes_on_from_the_look_that_is_best_when_all_is_paid() -> None:
    policy = policy_over(2)
    for charge, nearest in ((0.0, 0.5), (0.02, -0.5)):
        looked = told([[-0.5, 0.0], [0.5, 0.0]], [0.02, 0.03], [0.0, 0.0], [0.0, charge])
        assert abs(policy.next_setting(looked)[0, 0].item() - nearest) < 0.49


def test_slopes_at_the_neutral_render_correct_the_answer() -> None:
    """Those that the hill has there leave it; steeper ones lead beyond it, flatter ones fall short of it."""
    policy, answer = policy_over(2), torch.tensor([[0.3125, -0.1875]], dtype=torch.float64)
    with torch.no_grad():
        policy.process.mean.zero_()
        policy.process.log_slope_noise.fill_(-12.0)
    lengths = policy.process.log_lengths.detach().exp()
    steep = HILL / lengths.square() * answer[0]
    found = {
        share: policy.next_setting(told([[0.0, 0.0]], [0.0], (share * steep).tolist(), [0.0]), top=answer)[0]
        for share in (0.5, 1.0, 1.5)
    }
    np.testing.assert_allclose(found[1.0], answer[0], atol=1e-3)
    assert found[0.5][0] < 0.3025 < 0.3225 < found[1.5][0]
    assert found[0.5][1] > -0.1775 > -0.1975 > found[1.5][1]


def test_the_chance_of_rounding_does_not_reach_the_next_look() -> None:
    policy, pictures = policy_over(6), 32
    settings, slopes = drawn(pictures, 3, 6) * 0.5, drawn(pictures, 3, 1, 6) * 0.1
    gains, charges = drawn(pictures, 3, 1) * 0.02, torch.zeros(pictures, 3, dtype=torch.float64)
    found = policy.next_setting(Trail(settings, gains, slopes, charges))
    shaken = Trail(settings, gains * (1 + 1e-6), slopes * (1 - 1e-6), charges)
    np.testing.assert_array_equal(policy.next_setting(shaken), found)
    np.testing.assert_array_equal(found / GRID, (found / GRID).round())
    assert (found[:, None] - settings).abs().amax(dim=2).min() > GRID


def experiment(run: Path, core: Core, **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    arguments: dict[str, object] = {
        "steps": 80,
        "num_envs": 4,
        "every": 80,
        "algo": "climb",
        "task": "refine",
    } | options
    return Experiment(run, core, Bench(core, lambda images: images.mean(dim=(1, 2, 3))), **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_look(tmp_path_factory: pytest.TempPathFactory) -> StoredPolicy:
    run = tmp_path_factory.mktemp("runs") / "tune"
    built = experiment(run, real_core(Even()), task="tune", steps=256, algo="dpg")
    built.about = {"short_side": 72}
    built.train()
    built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
    return load_policy(run)


def test_a_climbing_policy_is_trained_resumed_stored_and_played(
    one_look: StoredPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climb, "STEPS_A_CHARGE", 8)  # it is the way that is tried here, not how far it leads
    core = real_core(GuardedReward([Even()]))
    whole = experiment(tmp_path / "whole", core, first=one_look)
    before = {name: value.clone() for name, value in whole.model.policy.state_dict().items()}
    assert before["deviations"] == 1.0
    whole.train()
    changed = {n for n, value in whole.model.policy.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(name.startswith("process.") for name in changed)
    half = experiment(tmp_path / "half", core, first=one_look, steps=40)
    half.train()
    rest = experiment(tmp_path / "half", core, first=one_look, seed=5, continued=True)
    load_checkpoint(tmp_path / "half" / CHECKPOINT, rest.model)
    for name, value in half.model.policy.state_dict().items():
        torch.testing.assert_close(rest.model.policy.state_dict()[name], value, rtol=0, atol=0)
    memory, other = half.model.replay_buffer, rest.model.replay_buffer  # type: ignore[attr-defined]
    assert memory.pos == other.pos == 2
    np.testing.assert_array_equal(memory.observations[:2], other.observations[:2])
    whole.conclude({"neutral": whole.bench.neutral(), "policy": whole.policy()}, 1.0)
    stored = load_policy(tmp_path / "whole")
    frames = np.arange(len(SIZES))
    asked: list[torch.Size] = []

    def counted(raw: RawBatch, **others: Any) -> Charges:
        asked.append(raw.image.shape)
        return Charges(raw, **others)

    with monkeypatch.context() as patched:
        patched.setattr(climb, "Charges", counted)
        answer, steps = play(envs_of(stored, core), frames, stored.act)
    assert steps == 5
    assert asked == [(len(frames), 3, 64, 64)] * 5  # before every look
    np.testing.assert_allclose(whole.policy().gains, whole.bench.at(answer, steps).gains, atol=1e-6)
    # one look is the first of five
    first, steps = play(envs_of(stored, core, 1), frames, stored.act)
    assert steps == 1
    looked = next(iter(looks_of(envs_of(stored, core), frames, stored.act))).answer
    assert isinstance(first, Settings)
    assert isinstance(looked, Settings)
    np.testing.assert_array_equal(first.actions, looked.actions)
    # the best look so far never falls, and looking again has helped
    found = best_so_far(looks_of(envs_of(stored, core), frames, stored.act))
    gains = [whole.bench.at(best.answer, 1).gains.mean() for best in found]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(gains))
    assert gains[-1] > gains[0] + 1e-4
    card = json.loads((tmp_path / "whole" / CARD).read_text())
    del card["network"]["observation_space"]["trail_charge"]
    (tmp_path / "whole" / CARD).write_text(json.dumps(card))
    with pytest.raises(InputError, match="climb did not see trail_charge; train the policy again"):
        load_policy(tmp_path / "whole")
    with pytest.raises(InputError, match="sees raw, raw_color, trail_charge"):
        PortablePolicy(stored, load("attiqa-mini"), (72, 96))


def test_the_first_look_is_the_stored_policys(one_look: StoredPolicy, tmp_path: Path) -> None:
    core = real_core(Even())
    built, frames = experiment(tmp_path / "run", core, first=one_look), np.arange(len(SIZES))
    expected = one_look.act(first_look(make_envs("tune", core, len(core), "dpg"), frames))
    seen = first_look(make_envs("refine", core, len(core), "climb"), frames)
    np.testing.assert_allclose(built.model.predict(seen)[0], expected, atol=1e-6)  # type: ignore[arg-type]


def test_a_reward_without_slopes_is_refused_when_it_is_climbed(
    one_look: StoredPolicy, tmp_path: Path
) -> None:
    class OpaqueEye(Opaque):
        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    built = experiment(tmp_path / "run", real_core(OpaqueEye()), first=one_look)
    with pytest.raises(InputError, match="OpaqueEye gives no gradient"):
        built.train()


def test_climbing_belongs_to_refine_and_needs_a_first_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_isp.main(["--algo", "climb"]) == 2
    assert "take --task refine" in capsys.readouterr().err
    assert train_isp.main(["--algo", "climb", "--task", "refine", "--reward", "sharpness"]) == 2
    assert "begins with the answer of a policy of one look" in capsys.readouterr().err
