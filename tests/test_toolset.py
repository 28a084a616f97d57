"""The tool set: identity at zero, mixed tools in one batch, golden values of the fixed filters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from attiqa.errors import InputError
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.frame import RawBatch
from isp_env.pipeline import Pipeline
from isp_env.toolset import TOOLS, ToolSet, apply_tools, bilateral5, median3

NAMES = [tool.name for tool in TOOLS]


@pytest.fixture
def images() -> torch.Tensor:
    coarse = torch.rand(6, 3, 8, 10) * 0.8 + 0.1
    smooth = torch.nn.functional.interpolate(coarse, (64, 80), mode="bilinear")
    return (smooth + 0.02 * torch.randn_like(smooth)).clamp(0.0, 1.0)


@pytest.mark.parametrize("tool", range(len(TOOLS)), ids=NAMES)
def test_strength_zero_leaves_the_image_and_full_strength_changes_it(tool, images):
    index = torch.full((6,), tool)
    assert torch.allclose(apply_tools(images, index, torch.zeros(6)), images, atol=1e-6)
    changed = apply_tools(images, index, torch.ones(6))
    assert torch.isfinite(changed).all()
    assert (changed - images).abs().mean() > 1e-5
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_each_image_gets_its_own_tool_as_if_it_were_alone(images):
    images = images.repeat(4, 1, 1, 1)[: len(TOOLS)]
    index = torch.randperm(len(TOOLS))
    strength = torch.rand(len(TOOLS)) * 2 - 1
    together = apply_tools(images, index, strength)
    for i in range(len(TOOLS)):
        some = slice(i, i + 1)
        assert torch.allclose(
            together[some], apply_tools(images[some], index[some], strength[some]), atol=1e-5
        )


def test_each_tool_runs_once_however_many_images_take_it(images):
    calls = []

    def counted(name):
        return lambda x, s: (calls.append((name, len(x))), x)[1]

    tools = [type(TOOLS[0])(name, counted(name), "") for name in "abc"]
    apply_tools(images, torch.tensor([2, 0, 2, 2, 0, 2]), torch.ones(6), tools)
    assert calls == [("a", 2), ("c", 4)]


def test_a_tool_set_renders_each_images_own_sequence_from_its_neutral_render():
    batch = RawBatch(torch.rand(3, 3, 40, 48), torch.ones(3, 3), torch.eye(3).expand(3, 3, 3))
    tools = ToolSet(["gamma", "box", "exposure"])
    order = np.array([[2, 0, 1], [0, 0, 0], [1, 3, 0]])
    strengths = torch.rand(3, 3) * 2 - 1
    renders = tools.render(batch, order, strengths)
    neutral = Pipeline().neutral(batch)
    for image, sequence in enumerate(([2, 0], [], [0, 1])):
        expected = neutral[image : image + 1]
        for tool in sequence:
            number = torch.tensor([NAMES.index(tools.names[tool])])
            expected = apply_tools(expected, number, strengths[image, tool : tool + 1])
        torch.testing.assert_close(renders[image : image + 1], expected, atol=1e-6, rtol=0)


def test_a_preview_looks_like_a_larger_image_shrunk():
    # as smooth at the size of a preview as what a camera sees is at the size of its sensor
    coarse = torch.rand(1, 3, 20, 24) * 0.6 + 0.2
    large = torch.nn.functional.interpolate(coarse, (512, 600), mode="bicubic").clamp(0.05, 0.95)

    def shrunk(images):
        return linear_to_srgb(torch.nn.functional.avg_pool2d(srgb_to_linear(images), 2))

    preview, strength = shrunk(large), torch.tensor([0.5])
    for name in ("shadows", "dehaze", "sharpen", "clahe", "box", "gaussian", "median", "bilateral", "guided"):
        index = torch.tensor([NAMES.index(name)])
        error = apply_tools(preview, index, strength) - shrunk(apply_tools(large, index, strength))
        assert -10 * torch.log10(error.square().mean()) >= 34, name


def test_the_median_is_scipys(images):
    expected = ndimage.median_filter(images[0, 0].numpy(), size=3, mode="nearest")
    assert np.allclose(median3(images)[0, 0].numpy(), expected)


def test_the_bilateral_filter_is_a_gaussian_where_differences_do_not_count(images):
    offsets = np.arange(-2, 3)
    kernel = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets**2) / 1.5**2)
    expected = ndimage.correlate(images[0, 0].double().numpy(), kernel / kernel.sum(), mode="nearest")
    assert np.allclose(bilateral5(images, color_sigma=1e3)[0, 0].numpy(), expected, atol=1e-5)


def test_grey_world_brings_the_channel_means_together_in_linear_light():
    images = torch.rand(1, 3, 32, 32) * torch.tensor([0.8, 0.6, 0.4])[:, None, None]
    balanced = apply_tools(images, torch.tensor([NAMES.index("grey_world")]), torch.ones(1))
    means = srgb_to_linear(balanced).mean(dim=(2, 3))
    assert torch.allclose(means, means[:, :1].expand(1, 3), rtol=0.02)


def test_unknown_tools_are_refused_in_a_sentence(images):
    for names in (["magic"], [], ["box", "box"]):
        with pytest.raises(InputError, match="expected tools by name, each once"):
            ToolSet(names)
    with pytest.raises(InputError, match="tool index"):
        apply_tools(images, torch.full((6,), 99), torch.ones(6))
