"""Rewards by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attiqa.errors import InputError
from attiqa.rewards import GuardedReward, build_reward, registry, reward_names
from attiqa.rewards.registry import GUARD, full_name, short_name


class TinyModel:
    """Stands for the bundled model: its score is the mean, its attributes are known numbers."""

    attribute_names = ("sharpness", "contrast", "brightness", "colorfulness", "noisiness")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))

    def attributes(self, images: torch.Tensor) -> torch.Tensor:
        return self(images)[:, None] * torch.arange(1.0, 6.0)


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda name, device, precision: TinyModel())


def images() -> torch.Tensor:
    return 0.25 + 0.5 * torch.rand(2, 3, 32, 32)


def test_default_reward_is_guarded_and_the_other_names_are_plain_scores() -> None:
    batch = images()
    assert reward_names() == ["guarded", "attiqa-mini", *TinyModel.attribute_names]
    guarded = build_reward()
    assert isinstance(guarded, GuardedReward)
    torch.testing.assert_close(guarded(batch, batch), torch.zeros(2))
    for factor, name in enumerate(reward_names()[2:], start=1):
        torch.testing.assert_close(build_reward(name)(batch), factor * batch.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(build_reward("attiqa-mini")(batch), batch.mean(dim=(1, 2, 3)))


def test_a_reward_of_ones_own_comes_by_module_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_reward_module.py").write_text(
        "limit = 3\ndef darkness(images): return -images.mean((1, 2, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    batch = images()
    torch.testing.assert_close(build_reward("my_reward_module:darkness")(batch), -batch.mean(dim=(1, 2, 3)))
    with pytest.raises(InputError, match="is no callable but int"):
        build_reward("my_reward_module:limit")
    with pytest.raises(InputError, match="cannot be imported"):
        build_reward("my_reward_module:brightness")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no reward named 'shiny'; choose guarded, attiqa-mini, sharpness"):
        build_reward("shiny")


def test_the_parts_of_the_guard_are_options() -> None:
    reward = build_reward("guarded:views=whole+mirrored,deviations=0,clip_weight=0,color_radius=5")
    assert isinstance(reward, GuardedReward)
    assert reward.views == ("whole", "mirrored")
    assert (reward.deviations, reward.clip_weight, reward.color_radius) == (0.0, 0.0, 5.0)
    assert reward.color_weight == GuardedReward([TinyModel()]).color_weight  # the rest stays as it is
    images_, neutral = images(), images()
    plain = build_reward(
        "guarded:views=whole,deviations=0,clip_weight=0,color_weight=0,chroma_weight=0,darkening_weight=0,"
        "paling_weight=0,greying_weight=0,tinting_weight=0,turning_weight=0"
    )
    bare = build_reward("attiqa-mini")
    torch.testing.assert_close(plain(images_, neutral), bare(images_) - bare(neutral))  # unguarded


@pytest.mark.parametrize("option", ["", "k=1", "deviations=few", "clip_weight", "deviations=nan"])
def test_an_option_that_the_guard_does_not_have_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=r"the guard has no option .*deviations, clip_weight"):
        build_reward(f"guarded:{option}")


def test_a_view_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="views must be some of whole, mirrored, cropped"):
        build_reward("guarded:views=sideways")


def test_a_record_keeps_every_option_of_the_guard() -> None:
    full = full_name("guarded")
    assert full == (
        "guarded:views=whole+cropped-mirrored,deviations=1,clip_weight=2,clip_tolerance=0.01,color_weight=0.02,"
        "color_radius=12,chroma_weight=0.01,darkening_weight=0.005,paling_weight=0.02,greying_weight=0.05,"
        "tinting_weight=0.02,turning_weight=0.01"
    )
    assert full_name(full) == full
    assert [short_name(name) for name in (full, "guarded", "attiqa-mini")] == [
        "guarded",
        "guarded",
        "attiqa-mini",
    ]
    assert short_name(full.replace("deviations=1", "deviations=0")) == "guarded:deviations=0"
    assert full_name("guarded:color_radius=12.0,views=whole+cropped-mirrored") == full
    assert full_name("guarded:views=whole+cropped") == full.replace("-mirrored", "")
    assert [full_name(name) for name in ("attiqa-mini", "my:reward")] == ["attiqa-mini", "my:reward"]
    with pytest.raises(InputError, match="has no option"):
        full_name("guarded:k=3")
    plain, spelled = build_reward("guarded"), build_reward(full)
    for key in ("views", *GUARD):
        assert getattr(plain, key) == getattr(spelled, key)


@pytest.mark.parametrize("free", [1, 2, 3, 4, 5, 6])
def test_in_a_record_from_before_a_charge_of_the_guard_it_is_free(free: int) -> None:
    every = full_name("guarded").split(",")
    options, joined = every[:-6], every[-6:]
    charges = [charge.partition("=")[0] for charge in joined]
    assert charges == [  # in this order
        "chroma_weight",
        "darkening_weight",
        "paling_weight",
        "greying_weight",
        "tinting_weight",
        "turning_weight",
    ]
    before = ",".join([*options, *joined[:-free]])
    assert full_name(before) == before + "".join(f",{charge}=0" for charge in charges[-free:])
