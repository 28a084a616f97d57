"""Graded distortions: identity at zero, monotone in their level, library values where there are any."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import color, data

from attiqa.distortions import DISTORTIONS, blur, distort, luma, to_display, to_linear
from attiqa.errors import InputError


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """A 128-pixel display sRGB crop of a real photograph, ``(3, 128, 128)``."""
    pixels = data.astronaut()[64:320:2, 128:384:2].astype(np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def strengths(photograph: torch.Tensor, name: str, levels: list[float]) -> torch.Tensor:
    images = photograph.unsqueeze(0).repeat(len(levels), 1, 1, 1)
    return DISTORTIONS[name](images, torch.tensor(levels), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DISTORTIONS)
def test_level_zero_is_bit_for_bit_the_identity(photograph: torch.Tensor, name: str) -> None:
    distorted = strengths(photograph, name, [0.0, -1.0, 0.0])
    assert torch.equal(distorted[0], photograph)
    assert torch.equal(distorted[2], photograph)
    assert not torch.equal(distorted[1], photograph)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distance_from_the_photograph_grows_with_the_level(photograph: torch.Tensor, name: str) -> None:
    for sign in (-1, 1) if DISTORTIONS[name].two_sided else (-1,):
        images = strengths(photograph, name, [sign * level / 10 for level in range(11)])
        distance = (images - photograph).square().mean((1, 2, 3))
        assert bool((distance.diff() > 0).all()), distance
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1


def test_each_attribute_is_monotone_over_its_whole_scale(photograph: torch.Tensor) -> None:
    scale = [level / 5 for level in range(-5, 6)]
    edges = strengths(photograph, "sharpness", scale).diff(dim=3).abs().mean((1, 2, 3))
    spread = strengths(photograph, "contrast", scale).std((1, 2, 3))
    light = to_linear(strengths(photograph, "brightness", scale)).mean((1, 2, 3))
    colorful = strengths(photograph, "colorfulness", scale)
    chroma = (colorful - luma(colorful)).abs().mean((1, 2, 3))
    for measure in (edges, spread, light, chroma):
        assert bool((measure.diff() > 0).all()), measure


def test_blur_is_the_gaussian_of_scipy(photograph: torch.Tensor) -> None:
    ours = blur(photograph.unsqueeze(0).repeat(2, 1, 1, 1), torch.tensor([1.5, 2.5]))
    for image, sigma in zip(ours, (1.5, 2.5), strict=True):
        # integrating over a pixel adds the variance of a box, 1/12
        wide = math.sqrt(sigma**2 + 1 / 12)
        theirs = ndimage.gaussian_filter(photograph.numpy(), (0, wide, wide), mode="mirror", truncate=4)
        assert np.abs(image.numpy() - theirs)[:, 8:-8, 8:-8].max() < 2e-3


def test_transfer_functions_are_inverse_and_agree_with_scikit_image(photograph: torch.Tensor) -> None:
    torch.testing.assert_close(to_display(to_linear(photograph)), photograph, atol=2e-5, rtol=0)
    lightness = color.rgb2xyz(photograph.numpy().transpose(1, 2, 0))[..., 1]
    np.testing.assert_allclose(luma(to_linear(photograph[None]))[0, 0].numpy(), lightness, atol=1e-3)


def test_one_stop_of_brightness_doubles_the_light(photograph: torch.Tensor) -> None:
    dark = photograph * 0.4
    brighter = strengths(dark, "brightness", [0.4])[0]
    torch.testing.assert_close(to_linear(brighter), 2 * to_linear(dark), atol=1e-4, rtol=1e-3)


def test_noise_has_the_documented_standard_deviation() -> None:
    grey = torch.full((3, 96, 96), 0.5)
    noise = strengths(grey, "noisiness", [-0.25, -0.5]) - 0.5
    expected = torch.tensor([0.16 * 0.25**1.3, 0.16 * 0.5**1.3])
    torch.testing.assert_close(noise.std((1, 2, 3)), expected, rtol=0.02, atol=0)


def test_colour_casts_keep_the_luminance(photograph: torch.Tensor) -> None:
    muted = 0.5 * photograph + 0.1
    for name in ("warmth", "tint"):
        cast = strengths(muted, name, [-0.5, 0.5])
        before, after = luma(to_linear(muted[None])).mean(), luma(to_linear(cast)).mean((1, 2, 3))
        torch.testing.assert_close(after, before.expand(2), rtol=5e-3, atol=0)


def test_blocks_are_constant_where_only_the_mean_survives() -> None:
    ramp = torch.linspace(0.4, 0.6, 64).expand(3, 64, 64)
    image = strengths(ramp, "blocks", [-1.0])[0]
    inside = image.unflatten(2, (8, 8)).diff(dim=3).abs().max()
    assert float(inside) < 1e-5
    assert float(image.diff(dim=2).abs().max()) > 0.02


def test_an_image_does_not_depend_on_its_neighbours_levels(photograph: torch.Tensor) -> None:
    levels = {"sharpness": torch.tensor([-0.5, -1.0]), "contrast": torch.tensor([0.3, -0.2])}
    both = distort(photograph.unsqueeze(0).repeat(2, 1, 1, 1), levels)
    first = distort(photograph.unsqueeze(0), {name: values[:1] for name, values in levels.items()})
    # kernels are cut at three sigma of the batch's widest blur
    torch.testing.assert_close(both[:1], first, atol=3e-4, rtol=0)


def test_an_unknown_distortion_names_the_known_ones(photograph: torch.Tensor) -> None:
    with pytest.raises(InputError, match="no distortion 'fog'; there are sharpness, haze"):
        distort(photograph.unsqueeze(0), {"fog": torch.ones(1)})
