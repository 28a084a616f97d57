"""Seeded variations of the frames of a source."""

from __future__ import annotations

import pytest
import torch

from attiqa.errors import InputError
from isp_env.frame import RawFrame
from isp_env.perturbed import PerturbedSource
from isp_env.sources import MemoryFrames


@pytest.fixture
def source() -> MemoryFrames:
    images = [torch.rand(3, 60, 90) * 0.5, torch.rand(3, 90, 60) * 0.5]
    frames = [
        RawFrame(image, torch.tensor([2.0, 1.0, 1.5]), torch.eye(3), f"f{number}", "0" * 64)
        for number, image in enumerate(images)
    ]
    return MemoryFrames(frames, images)


def test_without_perturbation_the_frames_are_the_sources_own(source):
    same = PerturbedSource(source)
    assert list(same.names) == ["f0", "f1"]
    torch.testing.assert_close(same.frame(1, 60).image, source.frame(1, 60).image)
    torch.testing.assert_close(same.frame(1, 60).white_balance, source.frame(1, 60).white_balance)


def test_variations_repeat_by_seed_and_differ_between_copies(source):
    settings = {"copies": 2, "crop": (0.5, 0.9), "exposure": (-1.0, 1.0), "shot_noise": (1e-4, 1e-2)}
    first, again, other = (PerturbedSource(source, seed, **settings) for seed in (0, 0, 1))
    assert list(first.names) == ["f0-0", "f0-1", "f1-0", "f1-1"]
    torch.testing.assert_close(first.frame(3, 30).image, again.frame(3, 30).image, rtol=0, atol=0)
    assert not torch.equal(first.frame(2, 30).image, first.frame(3, 30).image)
    assert not torch.equal(first.frame(2, 30).image, other.frame(2, 30).image)


def test_exposure_scales_light_and_saturates(source):
    brighter = PerturbedSource(source, exposure=(1.5, 1.5)).frame(0, 60).image
    torch.testing.assert_close(brighter, (source.frame(0, 60).image * 2**1.5).clamp(max=1.0))


def test_what_is_not_every_nth_variation_is_a_crop_alone(source):
    errors = {"exposure": (1.5, 1.5), "balance_error": (40.0, 40.0), "shot_noise": (1e-3, 1e-3)}
    mixed = PerturbedSource(source, copies=3, every=2, **errors)
    for copy in (0, 2):
        assert not torch.allclose(mixed.frame(copy, 60).image, source.frame(0, 60).image)
        assert not torch.allclose(mixed.frame(copy, 60).white_balance, source.frame(0, 60).white_balance)
    for spared in (mixed.frame(1, 60), mixed.frame(4, 60)):
        original = source.frame(0 if spared.name == "f0-1" else 1, 60)
        torch.testing.assert_close(spared.image, original.image)
        torch.testing.assert_close(spared.white_balance, original.white_balance)


def test_a_warm_balance_error_raises_red_against_blue(source):
    red, green, blue = PerturbedSource(source, balance_error=(40.0, 40.0)).frame(0, 60).white_balance
    assert red / green > 2.0
    assert blue / green < 1.5
    assert min(red, green, blue) == 1


def test_a_crop_keeps_aspect_and_size_and_the_render_follows(source):
    cropped = PerturbedSource(source, crop=(0.5, 0.5))
    assert cropped.frame(0, 30).image.shape == (3, 30, 45)
    assert cropped.libraw_auto(0, 30).shape == (3, 30, 45)
    torch.testing.assert_close(cropped.libraw_auto(0, 30), cropped.frame(0, 30).image, atol=1e-5, rtol=0)
    assert cropped.frame(1, 60).image.shape == (3, 45, 30)  # as much as the file has


def test_noise_has_the_variance_that_was_asked_for():
    grey = RawFrame(torch.full((3, 200, 200), 0.25), torch.ones(3), torch.eye(3), "grey", "0" * 64)
    noisy = PerturbedSource(MemoryFrames([grey]), shot_noise=(0.004, 0.004)).frame(0, 200).image
    torch.testing.assert_close(noisy.var(), torch.tensor(0.001), rtol=0.03, atol=0)


def test_impossible_settings_are_refused(source):
    with pytest.raises(InputError, match="at least 1 copy"):
        PerturbedSource(source, copies=0)
    with pytest.raises(InputError, match="every 0"):
        PerturbedSource(source, every=0)
    with pytest.raises(InputError, match="within"):
        PerturbedSource(source, crop=(0.5, 1.5))
