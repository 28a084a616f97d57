"""attiqa.fidelity: against definitions written out, and golden CIEDE2000 values of colour-science."""

from __future__ import annotations

import colour
import numpy as np
import pytest
import torch

from attiqa.errors import InputError
from attiqa.fidelity import FIDELITY, ciede2000, psnr, ssim


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 24, 32, generator=generator)
    return image, (image + 0.1 * torch.randn(3, 24, 32, generator=generator)).clamp(0, 1)


def test_psnr_is_ten_log_of_the_inverse_mean_square(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = images
    expected = -10 * np.log10(((a.double() - b.double()) ** 2).mean().item())
    assert psnr(a, b) == pytest.approx(expected, rel=1e-9)


def test_equal_images_are_perfect(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, _ = images
    assert psnr(a, a) == float("inf")
    assert ssim(a, a) == pytest.approx(1.0)
    assert ciede2000(a, a) == pytest.approx(0.0, abs=1e-9)


def test_ssim_of_a_constant_shift_has_the_closed_form() -> None:
    # with no variance SSIM is its luminance term (2 m n + c1) / (m^2 + n^2 + c1), c1 = 0.01^2
    a, b = torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.7)
    assert ssim(a, b) == pytest.approx((2 * 0.35 + 1e-4) / (0.25 + 0.49 + 1e-4), rel=1e-5)


def test_ciede2000_agrees_with_colour_science(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    labs = [
        colour.XYZ_to_Lab(
            colour.sRGB_to_XYZ(x.permute(1, 2, 0).double().numpy()),
            colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"],
        )
        for x in images
    ]
    expected = colour.delta_E(*labs, method="CIE 2000").mean()
    assert ciede2000(*images) == pytest.approx(expected, rel=2e-3)  # white points differ in the fourth digit


@pytest.mark.parametrize("name", FIDELITY)
def test_every_metric_ranks_a_worse_copy_as_worse(
    name: str, images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    metric, lower_is_better = FIDELITY[name]
    a, b = images
    near, far = metric((a + 0.2 * (b - a)), a), metric(b, a)
    assert (near < far) if lower_is_better else (near > far)


@pytest.mark.parametrize("name", FIDELITY)
def test_images_of_two_sizes_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="of one size"):
        FIDELITY[name][0](torch.zeros(3, 16, 16), torch.zeros(3, 16, 17))


def test_ssim_names_an_image_that_is_too_small() -> None:
    with pytest.raises(InputError, match="11 pixels"):
        ssim(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16))
