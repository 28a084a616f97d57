"""Rewards in other people's loops: the documented examples run, and calibration keeps its scale."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import percentileofscore, zscore

import attiqa
from attiqa.errors import InputError
from attiqa.rewards import adapters
from attiqa.rewards.adapters import DiffusionReward, QualityRewardWrapper, as_batch, seconds_per_call
from attiqa.rewards.calibration import CalibratedReward, calibration_of, fit_calibration, store_calibration
from attiqa.rewards.guarded import GuardedReward
from tests.tiny import tiny_checkpoint, tiny_model


class Fader(gymnasium.Env):
    """A foreign environment: the action is the grey level of the next frame, the task pays 1 a step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  (Gymnasium's own form)
    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Box(0, 1, (1,))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.level = 0.5

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.level = 0.5
        return np.array([self.level], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.level = float(action[0])
        return np.array([self.level], np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return np.full((32, 32, 3), round(self.level * 255), np.uint8)


def brightness(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


def run_example(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run the doctest in `text` to its end; returns its variables."""
    example = doctest.DocTestParser().get_doctest(text, names, "example", None, None)
    assert example.examples
    runner = doctest.DocTestRunner()
    runner.run(example, clear_globs=False)
    assert runner.failures == 0
    return example.globs


def test_reinforce_example_learns_the_best_gain() -> None:
    """The photographs' mean is 0.25 and the best mean is 0.4: the best gain is 1.6."""
    best = SimpleNamespace(load=lambda: lambda images: -((brightness(images) - 0.4) ** 2))
    found = run_example(adapters.__doc__ or "", {"attiqa": best, "torch": torch})
    assert found["gain"] == pytest.approx(1.6, abs=0.1)


def test_diffusion_example_runs_with_a_real_model(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    names = {
        "attiqa": SimpleNamespace(load=lambda: model),
        "torch": torch,
        "DiffusionReward": DiffusionReward,
    }
    found = run_example(DiffusionReward.__doc__ or "", names)
    torch.testing.assert_close(found["rewards"], model.score(found["images"]))
    assert not found["rewards"].requires_grad
    assert found["info"]["seconds"] > 0


def test_gymnasium_example_runs_in_an_environment_that_is_not_ours(tmp_path: Path) -> None:
    gymnasium.register("tests/Fader-v0", entry_point=lambda render_mode=None: Fader(render_mode))
    model = tiny_model(tmp_path)
    names = {
        "attiqa": SimpleNamespace(load=lambda: model),
        "gymnasium": gymnasium,
        "QualityRewardWrapper": QualityRewardWrapper,
        "env_id": "tests/Fader-v0",
    }
    found = run_example(QualityRewardWrapper.__doc__ or "", names)
    quality = float(model.score(as_batch(found["env"].render()[None]))[0])
    assert found["info"]["quality"] == pytest.approx(quality, abs=1e-6)
    assert found["reward"] == pytest.approx(1.0 + 0.1 * quality, abs=1e-6)  # the task pays 1


def test_wrapper_adds_replaces_or_rewards_the_change() -> None:
    actions = [np.array([level], np.float32) for level in (0.2, 0.8, 0.6)]

    def rewards(**options: Any) -> list[float]:
        env = QualityRewardWrapper(Fader("rgb_array"), brightness, **options)
        env.reset()
        return [float(env.step(action)[1]) for action in actions]

    assert rewards(weight=2) == pytest.approx([1.4, 2.6, 2.2], abs=0.01)
    assert rewards(task_weight=0) == pytest.approx([0.2, 0.8, 0.6], abs=0.01)
    changes = rewards(task_weight=0, difference=True)
    assert sum(changes) == pytest.approx(0.6 - 0.5, abs=0.01)


def test_wrapper_compares_with_the_first_frame_where_the_reward_wants_a_reference() -> None:
    guarded = GuardedReward([brightness], views=["whole"])
    env = QualityRewardWrapper(Fader("rgb_array"), guarded, task_weight=0)
    assert env.reset()[1]["quality"] == pytest.approx(0, abs=1e-6)
    assert float(env.step(np.array([0.7], np.float32))[1]) == pytest.approx(0.2, abs=0.01)


def test_images_of_every_form_that_trainers_use_are_one_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    pictures = [Image.fromarray(image) for image in pixels]
    for form in (pixels, pictures, torch.from_numpy(pixels).permute(0, 3, 1, 2), expected.double()):
        torch.testing.assert_close(as_batch(form), expected)
    with pytest.raises(InputError, match=r"uint8 array \(B, H, W, 3\)"):
        as_batch(pixels.astype(np.float32))
    with pytest.raises(InputError, match=r"expected images \(B, 3, H, W\)"):
        as_batch(torch.rand(2, 8, 9, 3))


def test_wrong_uses_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="has no neutral render"):
        DiffusionReward(GuardedReward([brightness]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one prompt an image; there are 1 for 2"):
        DiffusionReward(brightness)(torch.rand(2, 3, 8, 8), ["a cat"])
    with pytest.raises(InputError, match="make it with render_mode='rgb_array'"):
        QualityRewardWrapper(Fader(), brightness)
    with pytest.raises(InputError, match="at least one repeat"):
        seconds_per_call(brightness, torch.rand(1, 3, 8, 8), repeats=0)


def test_seconds_per_call_leaves_the_warm_up_out() -> None:
    calls: list[int] = []

    def slow_at_first(images: torch.Tensor) -> torch.Tensor:
        if not calls:
            torch.rand(2000, 2000).mm(torch.rand(2000, 2000))
        calls.append(1)
        return brightness(images)

    assert seconds_per_call(slow_at_first, torch.rand(1, 3, 8, 8), repeats=3) > 0
    assert len(calls) == 4


def test_calibrations_match_scipy() -> None:
    scores = np.random.default_rng(3).gamma(2.0, size=5000)
    values = torch.tensor([0.5, 1.0, 3.0, 6.0])
    standard = fit_calibration({"score": scores}, "z-score")(values)
    expected = [zscore(np.append(scores, float(value)))[-1] for value in values]
    np.testing.assert_allclose(standard, expected, atol=0.01)
    percentile = fit_calibration({"score": scores}, "percentile")
    ranks = [percentileofscore(scores, float(value)) / 100 for value in values]
    np.testing.assert_allclose(percentile(values), ranks, atol=0.005)
    assert percentile(torch.tensor([-9.0, 99.0])).tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["z-score", "percentile"])
def test_calibration_is_frozen_on_the_card_and_comes_back_with_the_model(kind: str, tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path)
    model = attiqa.load(path)
    images = torch.rand(16, 3, 40, 40)
    score, attributes = model.assess(images)
    columns = {"score": score.numpy(), "contrast": attributes[:, 1].numpy()}
    calibration = fit_calibration(columns, kind, "sixteen random images")
    store_calibration(path, calibration)
    again = attiqa.load(path)
    assert calibration_of(again) == calibration
    assert again.digest == model.digest
    reward = CalibratedReward(again)
    torch.testing.assert_close(reward(images), calibration(score))
    vector = reward.vector(images)
    assert list(vector) == ["score", "contrast"]
    torch.testing.assert_close(vector["contrast"], calibration(attributes[:, 1], "contrast"))


def test_bad_calibrations_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibration 'log'; choose one of z-score, percentile"):
        fit_calibration({"score": [1, 2]}, "log")
    with pytest.raises(InputError, match="two or more different, finite values; score has none such"):
        fit_calibration({"score": [1, 1]})
    model = tiny_model(tmp_path)
    with pytest.raises(InputError, match="card has no calibration"):
        CalibratedReward(model)
    with pytest.raises(InputError, match="no calibrated column 'focus'"):
        CalibratedReward(model, fit_calibration({"score": [1, 2]}), "focus")
