"""Demosaicking outside LibRaw, against LibRaw; X-Trans through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy
import torch

from attiqa.errors import InputError
from isp_env.demosaic import bilinear, register_half, upright
from isp_env.dng import BAYER_PATTERNS, XTRANS_PATTERN, write_dng
from isp_env.raw import read_raw

NEUTRAL = (0.5, 1.0, 0.625)
# XYZ (D65) to camera of the Canon 6D, as its DNG files carry it
MATRIX = np.array([[0.7034, -0.0804, -0.1014], [-0.4420, 1.2564, 0.2058], [-0.0851, 0.1994, 0.5758]])
BAYER_FILES = ["RAW_NIKON_D1.NEF", "CANON_EOS_D30.CRW", "RAW_KODAK_DC50.KDC"]


def scene(height: int, width: int) -> np.ndarray:
    """Smooth camera-linear colours, ``(3, H, W)``, with the values of the pixels' centres."""
    rows, columns = (np.mgrid[0:height, 0:width] + 0.5) / width
    return np.stack([0.2 + 0.1 * np.sin(9 * rows), 0.25 + 0.4 * columns, 0.15 + 0.3 * rows * columns])


def write_scene(path: Path, height: int, width: int, pattern: str, orientation: int = 1) -> np.ndarray:
    """A mosaic of `scene` as a DNG; returns the scene."""
    light, side = scene(height, width), round(len(pattern) ** 0.5)
    cell = np.array(["RGB".index(color) for color in pattern]).reshape(side, side)
    colors = np.tile(cell, (height // side + 1, width // side + 1))[:height, :width]
    mosaic = np.take_along_axis(light, colors[None], 0)[0]
    levels = np.rint(256 + mosaic * (16383 - 256)).astype(np.uint16)
    write_dng(path, levels, NEUTRAL, MATRIX, (256,) * 4, 16383, pattern, orientation)
    return light


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(torch.mean((a - b) ** 2)))


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("highlights", ["keep", "clip"])
def test_bilinear_is_libraws_linear_on_every_pattern(tmp_path, pattern, highlights):
    write_scene(tmp_path / "a.dng", 60, 80, pattern, orientation=8)
    ours, theirs = (
        read_raw(tmp_path / "a.dng", demosaic=demosaic, highlights=highlights).image
        for demosaic in ("bilinear", "linear")
    )
    # the two continue the border differently
    torch.testing.assert_close(ours[:, 2:-2, 2:-2], theirs[:, 2:-2, 2:-2], atol=5e-5, rtol=0)


@pytest.mark.data
@pytest.mark.parametrize("name", BAYER_FILES)
def test_bilinear_is_libraws_linear_on_camera_files(data_root, name):
    ours, theirs = (
        read_raw(data_root / "raws" / name, demosaic=demosaic, highlights="clip").image[:, 2:-2, 2:-2]
        for demosaic in ("bilinear", "linear")
    )
    assert psnr(ours, theirs) >= 85


def test_bilinear_keeps_what_was_measured_on_sides_that_are_odd():
    mosaic = torch.rand(2, 1, 7, 9)
    image = bilinear(mosaic, "RGGB")
    assert image.shape == (2, 3, 7, 9)
    torch.testing.assert_close(image[:, 0, ::2, ::2], mosaic[:, 0, ::2, ::2])
    torch.testing.assert_close(image[:, 2, 1::2, 1::2], mosaic[:, 0, 1::2, 1::2])
    with pytest.raises(InputError, match="no Bayer pattern"):
        bilinear(mosaic, "RGBG")


def test_files_without_a_bayer_mosaic_refuse_bilinear_in_a_sentence(tmp_path):
    write_dng(tmp_path / "a.dng", np.full((40, 60, 3), 1000, np.uint16), NEUTRAL, MATRIX)
    with pytest.raises(InputError, match="no Bayer mosaic"):
        read_raw(tmp_path / "a.dng", demosaic="bilinear")


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("orientation, flip", [(1, 0), (2, 1), (3, 3), (6, 6), (8, 5)])
def test_the_colours_of_a_half_size_image_are_brought_to_one_centre(tmp_path, pattern, orientation, flip):
    light = write_scene(tmp_path / "a.dng", 120, 160, pattern, orientation)
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert raw.sizes.flip == flip
    half = read_raw(tmp_path / "a.dng", demosaic="half").image
    cells = torch.from_numpy(light.reshape(3, 60, 2, 80, 2).mean((2, 4))).float()
    expected = upright(cells, flip)[:, 2:-2, 2:-2]
    registered = register_half(half, pattern, flip)[:, 2:-2, 2:-2]
    assert (registered - expected).abs().max() < 2e-4
    assert (half[:, 2:-2, 2:-2] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("demosaic", [None, "linear", "dht"])
def test_x_trans_mosaics_are_read(tmp_path, demosaic):
    # LibRaw wants 512 pixels a side for X-Trans
    light = write_scene(tmp_path / "a.dng", 516, 600, XTRANS_PATTERN)
    image = read_raw(tmp_path / "a.dng", demosaic=demosaic).image
    error = image[:, 8:-8, 8:-8] - torch.from_numpy(light).float()[:, 8:-8, 8:-8]
    assert error.square().mean().sqrt() < 1e-3
    assert read_raw(tmp_path / "a.dng", short_side=64).image.shape == (3, 64, 74)
