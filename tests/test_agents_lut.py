"""Lookup tables: other programs read them, and they do what the render does, as far as they say."""

from __future__ import annotations

from pathlib import Path

import colour
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from agents.lut import Lut, apply_table, build_lut, lattice, write_cube
from attiqa.fidelity import psnr
from isp_env.color import apply_matrix
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline

NAMES = ("temperature", "exposure", "shadows", "tone_midtones", "contrast", "vibrance", "clahe", "sharpen")
# of a Nikon D1 (LibRaw's matrix), as far from the identity as cameras are
MATRIX = torch.tensor([[1.78, -0.68, -0.10], [-0.23, 1.53, -0.30], [0.02, -0.58, 1.56]])


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(ParameterSpace(NAMES))


@pytest.fixture(scope="module")
def frame() -> RawFrame:
    """Smooth colours of all kinds, as an unbalanced camera would see them."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    linear = torch.nn.functional.interpolate(coarse, (96, 128), mode="bilinear")[0]
    balanced = apply_matrix(linear, torch.linalg.inv(MATRIX))
    gains = torch.tensor([1.9, 1.0, 1.6])
    return RawFrame(balanced / gains[:, None, None], gains, MATRIX, "frame", "0" * 64)


def settings(pipeline: Pipeline, **values: float) -> torch.Tensor:
    return torch.tensor([values.get(name, 0.0) for name in pipeline.space.names])


@pytest.fixture(scope="module")
def lut(pipeline: Pipeline, frame: RawFrame) -> Lut:
    values = settings(pipeline, temperature=25.0, exposure=0.4, shadows=0.3, contrast=0.4, vibrance=0.4)
    return build_lut(pipeline, frame, values)


def test_a_table_of_neutral_values_changes_nothing(pipeline, frame):
    made = build_lut(pipeline, frame, settings(pipeline))
    np.testing.assert_allclose(made.table.reshape(-1, 3), lattice(33)[:, :, 0, 0].numpy(), atol=1e-6)
    assert made.left_out == ()


def test_pointwise_parameters_are_in_the_table_to_the_eighth_bit(pipeline, frame):
    values = settings(pipeline, temperature=25.0, exposure=0.4, tone_midtones=0.1, contrast=0.4, vibrance=0.4)
    made = build_lut(pipeline, frame, values)
    assert made.against_render.psnr > 42.0
    assert made.against_render.ciede2000 < 0.5
    assert made.against_global == made.against_render


def test_what_a_table_cannot_hold_is_named_and_measured(pipeline, frame):
    made = build_lut(pipeline, frame, settings(pipeline, exposure=0.4, sharpen=1.5, clahe=1.0))
    assert made.left_out == ("clahe", "sharpen")
    assert made.against_global.psnr > 42.0
    neutral = pipeline.neutral(RawBatch.stack([frame]))[0]
    whole = pipeline.render_full(frame, settings(pipeline, exposure=0.4, sharpen=1.5, clahe=1.0))
    assert made.against_render.psnr == pytest.approx(psnr(apply_table(made.table, neutral), whole))
    assert made.against_render.psnr < made.against_global.psnr
    assert made.record()["error_against_render"]["psnr"] == made.against_render.psnr


def test_colour_science_reads_and_applies_the_file_as_we_do(lut, tmp_path):
    write_cube(tmp_path / "x.cube", lut, 'a "name"\nof two lines')
    read = colour.io.read_LUT_IridasCube(str(tmp_path / "x.cube"))
    assert read.size == 33
    assert read.name == "a 'name' of two lines"
    assert any(f"PSNR {lut.against_render.psnr:.2f} dB" in comment for comment in read.comments)
    pixels = np.random.default_rng(0).random((20, 30, 3))
    ours = apply_table(lut.table, torch.from_numpy(pixels).permute(2, 0, 1).float())
    theirs = read.apply(pixels, interpolator=colour.algebra.table_interpolation_trilinear)
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs, atol=2e-6)


def test_pillow_applies_the_table_to_eight_bits_as_we_do(lut):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    filtered = Image.fromarray(pixels).filter(ImageFilter.Color3DLUT(33, lut.table.reshape(-1)))
    ours = apply_table(lut.table, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    np.testing.assert_allclose(np.asarray(filtered), ours.permute(1, 2, 0).numpy() * 255, atol=1.0)


def test_the_table_of_a_real_raw_is_close_to_its_render(data_root: Path):
    from isp_env.raw import read_raw

    frame = read_raw(data_root / "raws" / "RAW_NIKON_D1.NEF", 256)
    pipeline = Pipeline(ParameterSpace(NAMES))
    made = build_lut(pipeline, frame, settings(pipeline, temperature=-20.0, exposure=0.5, contrast=0.3))
    assert made.against_render.psnr > 45.0
    assert made.against_render.ciede2000 < 0.3
