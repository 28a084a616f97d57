"""Photographs to raws: the inversion, its noise, its errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isp_env.color import apply_matrix, linear_to_srgb
from isp_env.unprocess import (
    add_noise,
    as_batch,
    balance_error_gains,
    draw_cameras,
    mosaic_bayer,
    to_camera_linear,
    unprocess,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(count: int = 3) -> torch.Tensor:
    """Smooth pictures below the highlights."""
    return torch.nn.functional.interpolate(
        torch.rand(count, 3, 4, 6, generator=generator()) * 0.8 + 0.05, size=(32, 48), mode="bilinear"
    )


def test_balance_matrix_transfer_and_smoothstep_lead_back_to_the_photograph():
    images, cameras = photographs(), draw_cameras(3, generator())
    batch = as_batch(to_camera_linear(images, cameras), cameras)
    linear = apply_matrix(batch.image * batch.white_balance[:, :, None, None], batch.color_matrix)
    toned = linear_to_srgb(linear.clamp(0, 1))
    # the forward tone curve of the paper, 3x^2 - 2x^3
    torch.testing.assert_close(toned**2 * (3 - 2 * toned), images, atol=1e-4, rtol=0)


def test_what_is_white_in_the_photograph_saturates_every_channel():
    white = torch.ones(2, 3, 8, 8)
    torch.testing.assert_close(to_camera_linear(white, draw_cameras(2, generator())), white)


def test_exposure_scales_light_by_powers_of_two():
    images = photographs()
    cameras = draw_cameras(3, generator())
    darker = draw_cameras(3, generator(), exposure=(-1.0, -1.0))
    torch.testing.assert_close(to_camera_linear(images, darker), to_camera_linear(images, cameras) / 2)


def test_a_balance_error_shows_in_the_recorded_balance_and_not_in_the_light():
    images = photographs()
    right, wrong = (draw_cameras(3, generator(), balance_error=(m, m)) for m in (0.0, 40.0))
    torch.testing.assert_close(to_camera_linear(images, right), to_camera_linear(images, wrong))
    torch.testing.assert_close(right.as_shot, right.gains)
    assert (wrong.as_shot[:, 0] > right.as_shot[:, 0]).all()  # too warm: more red,
    assert (wrong.as_shot[:, 2] < right.as_shot[:, 2]).all()  # less blue
    assert (wrong.as_shot[:, 1] == 1).all()


def test_no_balance_error_is_a_gain_of_one():
    cameras = draw_cameras(4, generator())
    torch.testing.assert_close(balance_error_gains(torch.zeros(4), cameras.rgb_to_camera), torch.ones(4, 3))


def test_the_mosaic_is_rggb():
    image = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 4, 4)
    np.testing.assert_array_equal(mosaic_bayer(image)[0, :2, :2], [[1, 2], [2, 3]])


@pytest.mark.parametrize("level", [0.0, 0.1, 0.7])
def test_noise_has_the_variance_of_its_law(level):
    cameras = draw_cameras(2, generator(), shot_noise=(1e-3, 1e-2))
    noisy = add_noise(torch.full((2, 300, 300), level), cameras, generator(1))
    expected = cameras.shot_noise * level + cameras.read_noise
    torch.testing.assert_close(noisy.var(dim=(1, 2)), expected, rtol=0.03, atol=0)
    torch.testing.assert_close(noisy.mean(dim=(1, 2)), torch.full((2,), level), atol=2e-3, rtol=0)


def test_drawn_cameras_lie_in_the_ranges_of_the_paper():
    cameras = draw_cameras(500, generator(), exposure=(-1.5, 0.7))
    assert 1.9 <= cameras.gains[:, 0].min() <= cameras.gains[:, 0].max() <= 2.4
    assert 1.5 <= cameras.gains[:, 2].min() <= cameras.gains[:, 2].max() <= 1.9
    assert 1e-4 <= cameras.shot_noise.min() <= cameras.shot_noise.max() <= 0.012
    assert -1.5 <= cameras.exposure.min() < -1.4 < 0.6 < cameras.exposure.max() <= 0.7
    torch.testing.assert_close(cameras.rgb_to_camera.sum(dim=-1), torch.ones(500, 3))


def test_the_same_seed_gives_the_same_mosaics_and_another_seed_others():
    def mosaics(seed: int) -> torch.Tensor:
        draw = generator(seed)
        return unprocess(photographs(), draw_cameras(3, draw), draw)

    torch.testing.assert_close(mosaics(3), mosaics(3), rtol=0, atol=0)
    assert not torch.equal(mosaics(3), mosaics(4))


@pytest.mark.parametrize(("lift", "power"), [(0.0, 1.0), (1.0, 2.0)])
def test_without_a_curve_the_camera_shows_the_photograph_and_a_lift_darkens_it(lift, power):
    images = photographs()
    cameras = draw_cameras(3, generator(), tone=(0.0, 0.0), lift=(lift, lift))
    batch = as_batch(to_camera_linear(images, cameras), cameras)
    linear = apply_matrix(batch.image * batch.white_balance[:, :, None, None], batch.color_matrix)
    torch.testing.assert_close(linear_to_srgb(linear.clamp(0, 1)), images**power, atol=1e-4, rtol=0)


def test_curves_of_one_value_leave_the_other_draws_as_they_are():
    plain, curved = (draw_cameras(3, generator(), tone=tone) for tone in ((1.0, 1.0), (0.5, 0.5)))
    torch.testing.assert_close(plain.read_noise, curved.read_noise, rtol=0, atol=0)
    assert draw_cameras(50, generator(), tone=(0.2, 0.4)).tone.std() > 0.04


def test_all_colours_of_a_pixel_stay_without_a_mosaic():
    images, cameras = photographs(), draw_cameras(3, generator(), shot_noise=(1e-9, 1e-9))
    colours = unprocess(images, cameras, generator(), mosaic=False)
    torch.testing.assert_close(colours, to_camera_linear(images, cameras), atol=1e-3, rtol=0)


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch():
    images = photographs()
    cameras = draw_cameras(3, generator(), (-1, 1), (-40, 40), (0.5, 1), tone=(0, 1), lift=(0, 1))
    one = type(cameras)(**{name: value[1:2] for name, value in vars(cameras).items()})
    torch.testing.assert_close(to_camera_linear(images, cameras)[1:2], to_camera_linear(images[1:2], one))
