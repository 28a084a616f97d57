"""Each operator alone: reference values, identity, monotone effect, edges; and the filters beneath them."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from isp_env import filters
from isp_env.color import linear_to_srgb
from isp_env.operators import balance, color, curves, denoise, detail, equalize, presence, tone

RAMP = torch.linspace(0, 1, 1024).expand(1, 3, 8, 1024)


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def draw(image: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    return curves.draw(image, curves.knot_polynomial(offsets))


def test_box_mean_is_scipys_uniform_filter():
    image = torch.rand(2, 1, 20, 31)
    expected = ndimage.uniform_filter(image[1, 0].numpy(), size=7, mode="nearest")
    assert np.allclose(filters.box_mean(image, 3)[1, 0].numpy(), expected, atol=1e-6)


def test_gaussian_blur_is_scipys_with_one_width_an_image():
    image = torch.rand(2, 1, 40, 50)
    blurred = filters.gaussian_blur(image, torch.tensor([1.0, 2.0]), reach=8)
    for i, sigma in enumerate((1.0, 2.0)):
        expected = ndimage.gaussian_filter(image[i, 0].numpy(), sigma, mode="mirror", radius=8)
        assert np.allclose(blurred[i, 0].numpy(), expected, atol=1e-5)


def test_shrinking_averages():
    image = torch.rand(1, 3, 64, 96)
    assert torch.allclose(filters.shrink(image, 16), torch.nn.functional.avg_pool2d(image, 4), atol=1e-6)
    assert filters.shrink(image, 64) is image
    assert filters.shrink(torch.rand(1, 1, 100, 333), 30).shape == (1, 1, 30, 100)


def test_encode_is_the_srgb_transfer_function():
    assert torch.allclose(curves.encode(RAMP), linear_to_srgb(RAMP), atol=2e-7)


@pytest.mark.parametrize("signs", [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
def test_the_tone_curve_is_monotone_at_every_corner_of_its_range(signs):
    curve = draw(RAMP, 0.2 * torch.tensor([signs], dtype=torch.float32))[0, 0, 0]
    assert curve.diff().min() >= -1e-6
    assert curve[0] == 0
    assert abs(float(curve[-1]) - 1) < 1e-6


def test_knots_are_bernstein_control_points():
    x, offsets = 0.3, [0.1, -0.05, 0.2]
    points = [0, 0.25 + offsets[0], 0.5 + offsets[1], 0.75 + offsets[2], 1]
    while len(points) > 1:  # de Casteljau
        points = [a + x * (b - a) for a, b in itertools.pairwise(points)]
    value = draw(torch.full((1, 3, 1, 1), x), torch.tensor([offsets]))
    assert torch.allclose(value, torch.full_like(value, points[0]), atol=1e-6)


@pytest.mark.parametrize("amount", [-1.0, 0.5, 1.0])
def test_contrast_is_monotone_and_leaves_black_middle_grey_and_white(amount):
    curve = curves.draw(RAMP, curves.contrast_polynomial(one(amount)))[0, 0, 0]
    assert curve.diff().min() >= -1e-6
    fixed = torch.tensor([0.0, curves.MIDDLE_GREY, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    assert torch.allclose(curves.draw(fixed, curves.contrast_polynomial(one(amount))), fixed, atol=1e-6)


def test_temperature_warms_and_tint_takes_green_away():
    gains, matrix = torch.tensor([[2.0, 1.0, 1.5]]), torch.eye(3)[None]
    warm = balance.balance_gains(gains, matrix, one(60.0), one(0.0))[0] / gains[0]
    assert warm[0] > 1.1
    assert warm[2] < 0.9
    magenta = balance.balance_gains(gains, matrix, one(0.0), one(0.25))[0] / gains[0]
    assert torch.allclose(magenta, torch.tensor([1.0, 2**-0.25, 1.0]), atol=1e-6)


def test_neutral_balance_is_the_as_shot_gains_exactly():
    gains = torch.rand(4, 3) + 1
    matrix = torch.eye(3) + 0.1 * torch.randn(4, 3, 3)
    assert torch.equal(balance.balance_gains(gains, matrix, torch.zeros(4), torch.zeros(4)), gains)


def test_a_singular_color_matrix_keeps_the_balance_finite():
    gains = balance.balance_gains(torch.ones(1, 3), torch.zeros(1, 3, 3), one(50.0), one(0.1))
    assert torch.isfinite(gains).all()


def test_exposure_of_one_stop_doubles_the_light():
    matrix = balance.exposed(torch.eye(3)[None], one(1.0))
    linear = balance.to_linear_srgb(torch.full((1, 3, 2, 2), 0.2), matrix)
    assert torch.allclose(linear, torch.full_like(linear, 0.4))


@pytest.mark.parametrize("amounts", [(-1, 1, -1, 1), (1, -1, 1, -1), (-1, -1, -1, -1), (1, 1, 1, 1)])
def test_tone_regions_never_swap_bright_and_dark(amounts):
    step = RAMP.square()  # an even ramp of lightness
    flat_base = torch.cat([torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)], dim=1)  # base layer = lightness
    out = tone.tone_regions(step, flat_base, torch.tensor([amounts], dtype=torch.float32))
    assert out[0, 0, 0].diff().min() >= -1e-5


def test_shadows_lift_the_dark_and_highlights_lower_the_bright():
    image = torch.cat([torch.full((1, 3, 64, 32), 0.02), torch.full((1, 3, 64, 32), 0.9)], dim=3)
    planes = filters.enlarge(tone.base_maps(image), image)
    lifted = tone.tone_regions(image, planes, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    assert lifted[0, 0, 32, 4] > 1.5 * 0.02
    assert abs(lifted[0, 0, 32, 60] / 0.9 - 1) < 0.05
    lowered = tone.tone_regions(image, planes, torch.tensor([[-1.0, 0.0, 0.0, 0.0]]))
    assert lowered[0, 0, 32, 60] < 0.7
    assert abs(lowered[0, 0, 32, 4] / 0.02 - 1) < 0.05


def test_tone_mapping_keeps_white_lifts_middle_grey_and_is_reinhards():
    mapped = tone.tone_map(RAMP, one(0.5))[0, 0, 0]  # p = 2
    x = RAMP[0, 0, 0]
    assert torch.allclose(mapped, 2 * x * (1 + 2 * x / 2**2) / (1 + 2 * x), atol=1e-6)
    assert abs(float(mapped[-1]) - 1) < 1e-6


def test_saturation_of_minus_one_is_grey_and_luma_stays():
    image = torch.rand(1, 3, 16, 16)
    grey = color.mix_colors(image, color.color_mix(one(-1.0), one(0.0), one(0.0), one(0.0)))
    assert torch.allclose(grey, filters.luminance(image).expand_as(grey), atol=1e-6)
    turned = color.mix_colors(image, color.color_mix(one(0.7), one(15.0), one(0.0), one(0.0)))
    assert torch.allclose(filters.luminance(turned), filters.luminance(image), atol=1e-5)


def test_hue_turns_red_towards_yellow():
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    turned = color.mix_colors(red, color.color_mix(one(0.0), one(20.0), one(0.0), one(0.0)))[0, :, 0, 0]
    assert turned[1] > turned[2] + 0.05


def test_vibrance_strengthens_pale_colours_more_than_strong_ones():
    pale, strong = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.55, 0.5, 0.5], [0.95, 0.1, 0.1]))

    def growth(image):
        after = color.vibrance(image, one(1.0))
        return float((after.amax() - after.amin()) / (image.amax() - image.amin()))

    assert growth(pale) > 1.5
    assert growth(strong) < 1.1


def without_noise(image: torch.Tensor, luma: float = 1.0, chroma: float = 1.0) -> torch.Tensor:
    maps = [filters.enlarge(each, image) for each in denoise.noise_maps(image)]
    return denoise.denoise_chroma(denoise.denoise_luma(image, maps[0], one(luma)), maps[1], one(chroma))


def test_denoising_lowers_noise_and_keeps_edges():
    clean = torch.cat([torch.full((1, 3, 256, 128), 0.1), torch.full((1, 3, 256, 128), 0.6)], dim=3)
    noisy = clean + 0.03 * clean.sqrt() * torch.randn_like(clean)  # as photons arrive
    out = without_noise(noisy)
    assert (out - clean).std() < 0.5 * (noisy - clean).std()
    assert (out[0, 1, :, 130].mean() - out[0, 1, :, 125].mean()) > 0.48
    half = without_noise(noisy, 0.5, 0.5)
    torch.testing.assert_close(half, (noisy + out) / 2, atol=1e-3, rtol=0)  # strength is a share


def test_small_coloured_things_keep_their_colour_and_hue():
    image = torch.full((1, 3, 256, 256), 0.2)
    image[..., ::16, ::16] = torch.tensor([0.3, 0.1, 0.1])[:, None, None]  # a pixel each
    noisy = image * (1 + 0.02 * torch.randn_like(image))
    out = without_noise(noisy)
    assert out[..., 4::16, 4::16].std() < 0.5 * noisy[..., 4::16, 4::16].std()
    dots = out[0, :, ::16, ::16].mean(dim=(1, 2))
    torch.testing.assert_close(dots, torch.tensor([0.3, 0.1, 0.1]), atol=0.03, rtol=0)


def test_texture_without_colour_is_no_noise():
    texture = 0.2 * (1 + 0.1 * torch.randn(1, 1, 256, 256)).expand(1, 3, 256, 256)
    assert (without_noise(texture) - texture).std() < 0.1 * texture.std()


def test_colours_do_not_bleed_over_an_edge_between_equally_bright_ones():
    colors = torch.tensor([[0.5, 0.1, 0.1], [0.1, 0.3, 0.1]])  # luma (R + 2 G + B) / 4 of 0.2
    image = torch.cat([own[None, :, None, None].expand(1, 3, 128, 64) for own in colors], dim=3)
    assert (without_noise(image) - image).abs().max() < 0.01


def test_what_is_dark_keeps_its_colour_beside_a_bright_blue_sky():
    image = torch.tensor([0.5, 0.6, 0.7])[None, :, None, None].expand(1, 3, 128, 128).clone()
    image[..., 60:64] = 0.01  # a grey beam
    beam = without_noise(image, luma=0.0)[..., 60:64]
    assert (beam[:, 2] - beam[:, 0]).abs().max() < 0.002


def dehaze(image: torch.Tensor, amount: float) -> torch.Tensor:
    maps, airlight = presence.dehaze_maps(image)
    return presence.dehaze(image, filters.enlarge(maps, image), airlight, one(amount))


def test_dehaze_removes_a_veil_and_its_negative_adds_one():
    scene = torch.rand(1, 3, 64, 64) * 0.5
    hazy = 0.6 * scene + 0.4 * 0.9
    clear = dehaze(hazy, 1.0)
    assert clear.std() > 1.3 * hazy.std()
    veiled = dehaze(scene, -1.0)
    assert veiled.std() < 0.8 * scene.std()
    assert veiled.mean() > scene.mean()


def test_clarity_and_sharpening_raise_local_contrast_with_their_amount():
    texture = 0.3 + 0.03 * torch.randn(1, 3, 128, 128)
    planes = filters.enlarge(tone.base_maps(texture), texture)
    spread = [float(presence.clarity(texture, planes, one(c)).std()) for c in (-1.0, 0.0, 1.0)]
    assert spread == sorted(spread)
    maps = detail.sharpen_maps(filters.luminance(texture), one(0.4))
    spread = [float(detail.sharpen(texture, maps, one(c)).std()) for c in (-0.5, 0.0, 1.5)]
    assert spread == sorted(spread)


def test_clahe_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((256, 256)), 8)
    levels = np.uint8(40 + 150 * (smooth - smooth.min()) / np.ptp(smooth))
    # few tiles: OpenCV gives the remainder of its integer division, up to 256 pixels a tile, to the dark bins
    expected = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(2, 2)).apply(levels)
    luma = torch.from_numpy(levels)[None, None].float() / 255
    maps = equalize.equalize_maps(luma, tiles=2, bins=256, clip=3.0)
    ours = equalize.equalized_luma(luma, maps)[0, 0].numpy() * 255
    assert np.abs(ours - expected).mean() < 2.5
