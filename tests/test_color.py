"""Colour functions against colour-science."""

from __future__ import annotations

import colour
import numpy as np
import pytest
import torch

from isp_env import color

RAMP = torch.linspace(-0.2, 2.0, 1001, dtype=torch.float64)


def test_srgb_transfer_functions_match_colour_science():
    ramp = RAMP[RAMP >= 0]
    np.testing.assert_allclose(color.linear_to_srgb(ramp), colour.models.eotf_inverse_sRGB(ramp), atol=1e-6)
    np.testing.assert_allclose(color.srgb_to_linear(ramp), colour.models.eotf_sRGB(ramp), atol=1e-6)


def test_srgb_transfer_functions_invert_each_other_below_zero_and_above_one():
    torch.testing.assert_close(color.srgb_to_linear(color.linear_to_srgb(RAMP)), RAMP, atol=1e-6, rtol=0)


def test_srgb_transfer_functions_have_finite_gradients_everywhere():
    ramp = RAMP.clone().requires_grad_()
    (color.linear_to_srgb(ramp) + color.srgb_to_linear(ramp)).sum().backward()
    assert ramp.grad is not None
    assert torch.isfinite(ramp.grad).all()


def test_prophoto_transfer_functions_match_colour_science():
    ramp = RAMP[RAMP >= 0]
    encoded = colour.models.cctf_encoding_ROMMRGB(ramp.numpy())
    np.testing.assert_allclose(color.linear_to_prophoto(ramp), encoded, atol=1e-6)
    np.testing.assert_allclose(color.prophoto_to_linear(torch.from_numpy(encoded)), ramp, atol=1e-6)


@pytest.mark.parametrize(
    "primaries, white, name",
    [
        (color.SRGB_PRIMARIES, color.D65_XY, "sRGB"),
        (color.PROPHOTO_PRIMARIES, color.D50_XY, "ProPhoto RGB"),
    ],
)
def test_primaries_give_the_matrix_of_colour_science(primaries, white, name):
    space = colour.RGB_COLOURSPACES[name].copy()
    space.use_derived_transformation_matrices(True)
    np.testing.assert_allclose(color.rgb_to_xyz_matrix(primaries, white), space.matrix_RGB_to_XYZ, atol=1e-5)


def test_bradford_adaptation_matches_colour_science():
    source = torch.tensor([color.D50_XY, (0.44757, 0.40745)], dtype=torch.float64)
    target = torch.tensor(color.D65_XY, dtype=torch.float64)
    for white, matrix in zip(source, color.adaptation_matrix(source, target), strict=True):
        expected = colour.adaptation.matrix_chromatic_adaptation_VonKries(
            color.xy_to_xyz(white).numpy(), color.xy_to_xyz(target).numpy(), transform="Bradford"
        )
        np.testing.assert_allclose(matrix, expected, atol=1e-8)


def test_prophoto_to_srgb_matches_colour_science():
    spaces = [colour.RGB_COLOURSPACES[name].copy() for name in ("ProPhoto RGB", "sRGB")]
    for space in spaces:
        space.use_derived_transformation_matrices(True)
    expected = colour.matrix_RGB_to_RGB(*spaces, chromatic_adaptation_transform="Bradford")
    np.testing.assert_allclose(color.prophoto_to_srgb_matrix(), expected, atol=1e-5)


def test_a_matrix_is_applied_to_each_pixel_of_its_own_image():
    image, matrix = torch.rand(4, 3, 5, 7), torch.rand(4, 3, 3)
    expected = torch.einsum("bij,bjhw->bihw", matrix, image)
    torch.testing.assert_close(color.apply_matrix(image, matrix), expected)
    torch.testing.assert_close(color.apply_matrix(image[0], matrix[0]), expected[0])
    torch.testing.assert_close(color.apply_matrix(image, matrix[0])[0], expected[0])


def test_black_body_chromaticity_matches_colour_science():
    kelvin = torch.linspace(1700, 25000, 400, dtype=torch.float64)
    np.testing.assert_allclose(
        color.kelvin_to_xy(kelvin), colour.temperature.CCT_to_xy_Kang2002(kelvin.numpy()), atol=1e-8
    )


def test_black_body_chromaticity_stays_finite_outside_its_range():
    ends = color.kelvin_to_xy(torch.tensor([1667.0, 25000.0]))
    torch.testing.assert_close(color.kelvin_to_xy(torch.tensor([1.0, 1e9])), ends)


def test_correlated_temperature_matches_colour_science():
    xy = torch.tensor([color.D65_XY, color.D50_XY, (0.44757, 0.40745)], dtype=torch.float64)
    np.testing.assert_allclose(
        color.xy_to_kelvin(xy), colour.temperature.xy_to_CCT_McCamy1992(xy.numpy()), rtol=1e-9
    )


def test_mired_is_its_own_inverse():
    kelvin = torch.tensor([2000.0, 5000.0, 6500.0])
    torch.testing.assert_close(color.kelvin_to_mired(kelvin), torch.tensor([500.0, 200.0, 1e6 / 6500]))
    torch.testing.assert_close(color.kelvin_to_mired(color.kelvin_to_mired(kelvin)), kelvin)
