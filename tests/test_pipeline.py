"""The whole ISP: neutral renders, independence within a batch, one look at every size."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from attiqa.errors import InputError
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import PARAMETERS, ParameterSpace
from isp_env.pipeline import _CHUNK_PIXELS, Pipeline
from isp_env.raw import read_raw, shrink

WHITE_BALANCE = torch.tensor([2.0, 1.0, 1.5])
COLOR_MATRIX = torch.tensor([[1.6, -0.5, -0.1], [-0.2, 1.4, -0.2], [0.0, -0.5, 1.5]])


def raw_batch(count: int, height: int, width: int, noise: float = 0.02) -> RawBatch:
    """Smooth random scenes with noise, seen by a camera; some pixels are saturated, some below black."""
    coarse = torch.rand(count, 3, height // 16 + 2, width // 16 + 2)
    scene = 0.8 * F.interpolate(coarse, (height, width), mode="bicubic")
    camera = scene / WHITE_BALANCE[:, None, None] + noise * torch.randn_like(scene)
    return RawBatch(camera.clamp(max=1.0), WHITE_BALANCE.expand(count, 3), COLOR_MATRIX.expand(count, 3, 3))


def random_values(space: ParameterSpace, count: int, reach: float = 1.0) -> torch.Tensor:
    return space.to_physical((torch.rand(count, len(space)) * 2 - 1) * reach)


def psnr(image: torch.Tensor, reference: torch.Tensor) -> float:
    return float(-10 * torch.log10(F.mse_loss(image, reference)))


def test_the_neutral_render_is_balance_clip_matrix_and_transfer_function():
    batch = raw_batch(2, 32, 48)
    balanced = (batch.image * WHITE_BALANCE[:, None, None]).clamp(0, 1)
    linear = torch.einsum("ij,bjhw->bihw", COLOR_MATRIX, balanced)
    expected = linear_to_srgb(linear.clamp(0, 1))
    assert torch.allclose(Pipeline().neutral(batch), expected, atol=1e-6)


def test_saturated_pixels_are_white_whatever_the_balance():
    batch = raw_batch(4, 8, 8)
    batch.image.fill_(1.0)
    space = ParameterSpace(["temperature", "tint"])
    values = torch.tensor([[80.0, 0.25], [-80.0, -0.25], [80.0, -0.25], [-80.0, 0.25]])
    assert torch.allclose(Pipeline(space)(batch, values), torch.ones(4, 3, 8, 8), atol=1e-6)


@pytest.mark.parametrize("name", [row.name for row in PARAMETERS])
def test_a_neutral_image_stays_neutral_beside_one_that_is_changed(name):
    space = ParameterSpace([name])
    batch = raw_batch(2, 64, 80)
    values = torch.stack([space.neutral, space.high])
    render = Pipeline(space)(batch, values)
    assert torch.allclose(render[0], Pipeline(space).neutral(batch)[0], atol=1e-6)


def test_images_do_not_depend_on_their_neighbours():
    space = ParameterSpace()
    batch, values = raw_batch(6, 64, 96), random_values(space, 6)
    pipeline = Pipeline(space)
    together = pipeline(batch, values)
    for i in range(6):
        alone = pipeline(batch.select(torch.tensor([i])), values[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_random_parameters_give_finite_pictures_in_range(scale):
    space = ParameterSpace()
    batch = raw_batch(16, 32, 40, noise=0.1)
    batch.image.mul_(scale)
    render = Pipeline(space)(batch, space.to_physical(torch.randn(16, len(space)).sign()))
    assert torch.isfinite(render).all()
    assert render.min() >= 0
    assert render.max() <= 1


@pytest.mark.parametrize("size", [(300, 410), (410, 300), (90, 130)])
def test_strips_agree_with_the_whole(size, monkeypatch):
    space = ParameterSpace()
    batch, values = raw_batch(1, *size), random_values(space, 1)
    frame = RawFrame(batch.image[0], batch.white_balance[0], batch.color_matrix[0], "scene", "0" * 64)
    whole = Pipeline(space)(batch, values)[0]
    monkeypatch.setitem(_CHUNK_PIXELS, "cpu", 7000)
    assert torch.allclose(Pipeline(space).render_full(frame, values[0]), whole, atol=1e-5)


def test_a_preview_looks_like_the_full_render_shrunk():
    space = ParameterSpace()
    full = raw_batch(4, 768, 1024, noise=0.002)
    # pale colours off the ends of the scale: what is clipped does not commute with shrinking
    full.image.mul_(0.3).add_(0.2 / WHITE_BALANCE[:, None, None])
    preview = RawBatch(F.avg_pool2d(full.image, 3), full.white_balance, full.color_matrix)
    pipeline = Pipeline(space)

    def agreement(values: torch.Tensor) -> float:
        shrunk = linear_to_srgb(F.avg_pool2d(srgb_to_linear(pipeline(full, values)), 3))
        return psnr(pipeline(preview, values), shrunk)

    assert agreement(space.neutral_values(4)) >= 40
    assert agreement(random_values(space, 4, reach=0.5)) >= 30


@pytest.mark.data
@pytest.mark.parametrize("name", ["RAW_NIKON_D1.NEF", "CANON_EOS_6D_linear.dng"])
def test_a_preview_of_a_real_raw_looks_like_its_full_render_shrunk(name, data_root):
    space = ParameterSpace()
    full = read_raw(data_root / "raws" / name, demosaic="half")
    preview = RawBatch.stack([replace(full, image=shrink(full.image, 256))])
    pipeline = Pipeline(space)

    def agreement(values: torch.Tensor) -> float:
        shrunk = linear_to_srgb(shrink(srgb_to_linear(pipeline.render_full(full, values[0])), 256))
        return psnr(pipeline(preview, values)[0], shrunk)

    assert agreement(space.neutral_values(1)) >= 40
    assert agreement(random_values(space, 1, reach=0.5)) >= 30
    for name in ("denoise_luma", "denoise_chroma", "highlights", "dehaze", "clarity", "clahe", "sharpen"):
        actions = torch.zeros(1, len(space))
        actions[0, space.names.index(name)] = 0.5
        assert agreement(space.to_physical(actions)) >= 34, name


def test_inputs_are_left_untouched():
    space = ParameterSpace()
    batch, values = raw_batch(2, 32, 48), random_values(space, 2)
    before = batch.image.clone(), values.clone()
    Pipeline(space)(batch, values)
    assert torch.equal(batch.image, before[0])
    assert torch.equal(values, before[1])


def test_values_of_the_wrong_shape_or_not_finite_are_refused_in_a_sentence():
    pipeline = Pipeline(ParameterSpace(["exposure"]))
    batch = raw_batch(2, 16, 16)
    with pytest.raises(InputError, match="shape"):
        pipeline(batch, torch.zeros(3, 1))
    with pytest.raises(InputError, match="finite"):
        pipeline(batch, torch.tensor([[0.0], [float("nan")]]))
