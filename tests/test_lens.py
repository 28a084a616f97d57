"""Lenses that darken corners and bend lines, and DNGs that say by how much."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from isp_env.dng import CFA, write_dng
from isp_env.lens import Sensor, corrected
from isp_env.opcodes import (
    OPCODE_LIST_2,
    OPCODE_LIST_3,
    GainMap,
    RadialGain,
    Warp,
    opcode_list,
    read_opcodes,
)
from isp_env.raw import read_raw

NEUTRAL = (0.5, 1.0, 0.625)
MATRIX = np.array([[0.7034, -0.0804, -0.1014], [-0.4420, 1.2564, 0.2058], [-0.0851, 0.1994, 0.5758]])
LIGHT = (0.3, 0.4, 0.2)  # of the even scene: red, green, blue
HEIGHT, WIDTH = 120, 160
FISHEYE = struct.pack(">4I", 2, 0x01030000, 1, 8) + bytes(8)


def bilinear_gains(corners: np.ndarray) -> np.ndarray:
    """Gains ``(HEIGHT, WIDTH)`` between four corners ``(2, 2)``, which lie on the image's edges."""
    rows = ((np.arange(HEIGHT) + 0.5) / HEIGHT)[:, None]
    columns = (np.arange(WIDTH) + 0.5) / WIDTH
    left, right = (corners[0, side] * (1 - rows) + corners[1, side] * rows for side in (0, 1))
    return left * (1 - columns) + right * columns


def write_shaded(path: Path, gains: dict[tuple[int, int], np.ndarray], opcodes, orientation: int = 1) -> None:
    """An even scene on an RGGB sensor, each place of whose cell a lens has darkened by its gains."""
    mosaic = np.empty((HEIGHT, WIDTH))
    for (top, left), light in zip(np.ndindex(2, 2), (LIGHT[0], LIGHT[1], LIGHT[1], LIGHT[2]), strict=True):
        mosaic[top::2, left::2] = light / gains[top, left][top::2, left::2]
    levels = np.rint(mosaic * 65535).astype(np.uint16)
    write_dng(path, levels, NEUTRAL, MATRIX, orientation=orientation, opcodes=opcodes)


def of_the_cell(corners: dict[tuple[int, int], np.ndarray]) -> list[GainMap]:
    """One map for each place of the cell, as cameras write them."""
    return [
        GainMap(corners[place][..., None].astype(np.float32), (*place, HEIGHT, WIDTH), pitch=(2, 2))
        for place in np.ndindex(2, 2)
    ]


def assert_even(path: Path, within: float = 0.004, **options) -> None:
    image = read_raw(path, **options).image
    torch.testing.assert_close(
        image, torch.tensor(LIGHT)[:, None, None].expand_as(image), rtol=within, atol=0.0
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_place_of_the_cell_is_evened_out_however_the_camera_was_held(tmp_path, orientation):
    generator = np.random.default_rng(0)
    corners = {place: generator.uniform(1.0, 2.5, (2, 2)) for place in np.ndindex(2, 2)}
    corners[0, 1] = np.array([[1.0, 2.5], [1.2, 2.0]])
    corners[1, 0] = corners[0, 1] * 1.01  # the two greens of a camera differ, but little
    path = tmp_path / "own.dng"
    lists = {OPCODE_LIST_2: opcode_list(of_the_cell(corners))}
    gains = {place: bilinear_gains(value) for place, value in corners.items()}
    write_shaded(path, gains, lists, orientation)
    # a demosaic mixes neighbours, which had other gains: a percent at the picture's rim
    for demosaic in ("half", "bilinear", "linear"):
        assert_even(path, within=0.02, demosaic=demosaic)
    shaded = read_raw(path, demosaic="half", correct_lens=False).image
    assert shaded[1].max() / shaded[1].min() > 2


@pytest.mark.parametrize("short_side", [None, 24])
def test_previews_and_full_frames_are_evened_out_alike(tmp_path, short_side):
    corners = {place: np.array([[2.0, 1.0], [1.0, 1.5]]) for place in np.ndindex(2, 2)}
    path = tmp_path / "own.dng"
    gains = {place: bilinear_gains(value) for place, value in corners.items()}
    write_shaded(path, gains, {OPCODE_LIST_2: opcode_list(of_the_cell(corners))})
    assert_even(path, within=0.01, short_side=short_side)


def test_a_linear_raw_has_a_gain_map_for_each_plane(tmp_path):
    corners = np.stack([np.full((2, 2), 1.5), [[1.0, 2.0], [1.0, 1.0]], np.ones((2, 2))], axis=2)
    gains = np.stack([bilinear_gains(corners[..., plane]) for plane in range(3)], axis=2)
    area = (0, 0, HEIGHT, WIDTH)
    opcodes = [
        GainMap(corners[..., :2].astype(np.float32), area, planes=(0, 2)),
        GainMap(corners[..., 2:].astype(np.float32), area, planes=(2, 1)),
    ]
    path = tmp_path / "linear.dng"
    levels = np.rint(np.array(LIGHT) / gains * 65535).astype(np.uint16)
    write_dng(path, levels, (1.0, 1.0, 1.0), MATRIX, opcodes={OPCODE_LIST_3: opcode_list(opcodes)})
    assert_even(path)


def test_a_map_serves_only_its_area_and_holds_its_edge_beyond_the_grid(tmp_path):
    grid = np.array([[1.0], [2.0]], dtype=np.float32)[..., None]  # from 1 at a quarter to 2 at the middle
    opcode = GainMap(grid, (0, 0, HEIGHT, WIDTH // 2), origin=(0.25, 0.0), spacing=(0.25, 1.0))
    path = tmp_path / "part.dng"
    levels = np.full((HEIGHT, WIDTH, 3), 13107, dtype=np.uint16)
    write_dng(path, levels, (1.0, 1.0, 1.0), MATRIX, opcodes={OPCODE_LIST_3: opcode_list([opcode])})
    image = read_raw(path).image / 0.2
    assert image[0, : HEIGHT // 4, : WIDTH // 2].max() == pytest.approx(1.0, abs=0.01)
    assert image[0, HEIGHT // 2 :, : WIDTH // 2].min() == pytest.approx(2.0, abs=0.01)
    assert image[0, 3 * HEIGHT // 8, 0] == pytest.approx(1.5, abs=0.02)
    assert image[0, :, WIDTH // 2 + 1 :].max() == pytest.approx(1.0, abs=0.01)
    assert image[1].max() == pytest.approx(1.0, abs=0.01)  # the map is for the first plane


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_radial_gain_counts_from_its_centre_to_the_farthest_corner(tmp_path, orientation):
    opcode = RadialGain((0.5, 0.3, 0.0, 0.0, 0.1), center=(0.25, 0.5))
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    x, y = columns - 0.25 * WIDTH, rows - 0.5 * HEIGHT
    squared = (x**2 + y**2) / ((0.75 * WIDTH) ** 2 + (0.5 * HEIGHT) ** 2)
    gain = 1 + 0.5 * squared + 0.3 * squared**2 + 0.1 * squared**5
    path = tmp_path / "radial.dng"
    lists = {OPCODE_LIST_3: opcode_list([opcode])}
    write_shaded(path, dict.fromkeys(np.ndindex(2, 2), gain), lists, orientation)
    assert_even(path, within=0.01, demosaic="half")


def plaid(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Smooth waves at places that are shares of height and width."""
    return 0.5 + 0.3 * np.sin(12 * rows) * np.cos(9 * columns + 0.5)


@pytest.mark.parametrize("turned", range(8))
def test_a_warp_straightens_what_the_lens_bent(turned):
    """A scene drawn through the lens, by Newton's way back from bent to straight places, and its mend."""
    terms, center = (0.85, 0.2, -0.03, 0.01, 0.004, -0.006), (0.45, 0.55)
    height, width = 240, 320
    farthest = np.hypot(0.55 * width, 0.55 * height)

    def bent(x, y):
        squared = x**2 + y**2
        scale = terms[0] + terms[1] * squared + terms[2] * squared**2 + terms[3] * squared**3
        return (
            x * scale + 2 * terms[4] * x * y + terms[5] * (squared + 2 * x**2),
            y * scale + 2 * terms[5] * x * y + terms[4] * (squared + 2 * y**2),
        )

    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    wanted = (columns - center[0] * width) / farthest, (rows - center[1] * height) / farthest
    x, y = wanted
    for _ in range(60):  # a fixed point, as the lens moves little
        found = bent(x, y)
        x, y = x + wanted[0] - found[0], y + wanted[1] - found[1]
    drawn = plaid(y * farthest / height + center[1], x * farthest / width + center[0])
    straight = plaid(rows / height, columns / width)
    upright = [np.copy(picture) for picture in (drawn, straight)]
    if turned & 2:
        upright = [picture[::-1] for picture in upright]
    if turned & 1:
        upright = [picture[:, ::-1] for picture in upright]
    if turned & 4:
        upright = [picture.T for picture in upright]
    image, expected = (torch.tensor(picture.copy()).float().expand(3, -1, -1).clone() for picture in upright)
    mended = corrected(image, [Warp((terms,), center)], Sensor(height, width, turned))
    inner = (slice(None), slice(20, -20), slice(20, -20))
    torch.testing.assert_close(mended[inner], expected[inner], atol=1e-3, rtol=0.0)  # bicubic
    assert (image - expected)[inner].abs().max() > 0.1


def test_a_warp_brings_the_colours_together(tmp_path):
    """Red and blue that a lens magnifies by a fiftieth more and less than green."""
    rows, columns = ((np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5).T / (HEIGHT, WIDTH)).T
    scales = (1.02, 1.0, 0.98)
    drawn = [plaid((rows - 0.5) / scale + 0.5, (columns - 0.5) / scale + 0.5) for scale in scales]
    levels = np.rint(np.stack(drawn, axis=2) * 65535).astype(np.uint16)
    warp = Warp(tuple((scale, 0.0, 0.0, 0.0, 0.0, 0.0) for scale in scales))
    path = tmp_path / "fringes.dng"
    write_dng(path, levels, (1.0, 1.0, 1.0), MATRIX, opcodes={OPCODE_LIST_3: opcode_list([warp])})
    before, after = (read_raw(path, correct_lens=on).image[:, 4:-4, 4:-4] for on in (False, True))
    assert (before[0] - before[2]).abs().max() > 0.05
    torch.testing.assert_close(after[[0, 2]], after[[1, 1]], atol=3e-3, rtol=0.0)  # bicubic


def test_gains_and_warps_are_applied_in_the_order_of_the_file():
    halves = Warp(((0.5, 0.0, 0.0, 0.0, 0.0, 0.0),))
    gain = RadialGain((1.0, 0.0, 0.0, 0.0, 0.0))
    sensor = Sensor(HEIGHT, WIDTH)
    first, last = (
        corrected(torch.ones(3, HEIGHT, WIDTH), order, sensor) for order in ([gain, halves], [halves, gain])
    )
    assert first.max() == pytest.approx(1.25, abs=0.01)  # the corner shows what lay half as far out
    assert last.max() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("highlights", ["keep", "clip"])
def test_what_gains_take_beyond_saturation_is_saturated(tmp_path, highlights):
    corners = {place: np.full((2, 2), 3.0) for place in np.ndindex(2, 2)}
    path = tmp_path / "bright.dng"
    ones = dict.fromkeys(np.ndindex(2, 2), np.ones((HEIGHT, WIDTH)))
    write_shaded(path, ones, {OPCODE_LIST_2: opcode_list(of_the_cell(corners))})
    image = read_raw(path, highlights=highlights, demosaic="half").image.mean((1, 2))
    limits = torch.tensor([1.0, 1.0, 1.0]) if highlights == "keep" else torch.tensor(NEUTRAL)
    expected = torch.minimum(3 * torch.tensor(LIGHT), limits)
    torch.testing.assert_close(image, expected, rtol=0.002, atol=0.0)


def test_opcodes_are_those_of_the_raw_and_not_of_a_preview(tmp_path):
    """As Adobe's converter lays files out: a preview first, the raw in a directory of its own below it."""
    path = tmp_path / "converted.dng"
    gains = [opcode_list([RadialGain((k, 0.0, 0.0, 0.0, 0.0))]) for k in (0.1, 0.2)]
    tags = [[(OPCODE_LIST_3, 7, len(content), content, True)] for content in gains]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subifds=1, extratags=tags[0])
        tiff.write(np.zeros((HEIGHT, WIDTH), np.uint16), photometric=CFA, extratags=tags[1])
    ((found,), notes) = read_opcodes(path)
    assert isinstance(found, RadialGain)
    assert found.terms[0] == 0.2
    assert notes == ()


def test_opcodes_that_are_not_applied_are_named(tmp_path):
    path = tmp_path / "warped.dng"
    ones = dict.fromkeys(np.ndindex(2, 2), np.ones((HEIGHT, WIDTH)))
    write_shaded(path, ones, {OPCODE_LIST_3: struct.pack(">I", 1) + FISHEYE})
    assert read_raw(path).notes == ("the file asks for the opcode WarpFisheye, which is not applied",)
    assert read_raw(path, correct_lens=False).notes == ()


whole = opcode_list([GainMap(np.full((2, 2, 1), 2.0, dtype=np.float32), (0, 0, HEIGHT, WIDTH))])
dark = opcode_list([GainMap(np.zeros((2, 2, 1), dtype=np.float32), (0, 0, HEIGHT, WIDTH))])
nowhere = opcode_list([RadialGain((float("nan"), 0.0, 0.0, 0.0, 0.0))])


@pytest.mark.parametrize("content", [whole[:-3], whole[:30], whole[:2], dark, nowhere])
def test_a_broken_list_is_noted_and_the_picture_stays(tmp_path, content):
    path = tmp_path / "broken.dng"
    ones = dict.fromkeys(np.ndindex(2, 2), np.ones((HEIGHT, WIDTH)))
    write_shaded(path, ones, {OPCODE_LIST_2: content})
    (note,) = read_raw(path).notes
    assert note.startswith("the file's opcodes cannot be read (")
    assert_even(path)


def test_a_gopro_states_the_shading_of_its_lens(data_root):
    """Four maps of 23 x 23: 1 in the middle, 1.79 to 2.08 at the corners; the sensor lies mirrored."""
    path = data_root / "raws" / "GOPRO_HERO6.dng"
    assert [gain.gains.shape for gain in read_opcodes(path)[0]] == [(23, 23, 1)] * 4
    plain, evened = (read_raw(path, demosaic="half", correct_lens=on).image for on in (False, True))
    ratio = (evened / plain).where((evened < 1.0) & (plain > 0.005), torch.tensor(float("nan")))
    assert ratio[:, :4, :4].nanmean().item() == pytest.approx(1.948, abs=0.02)
    assert ratio[:, :4, -4:].nanmean().item() == pytest.approx(1.789, abs=0.02)
    assert ratio[:, 745:755, 995:1005].nanmean().item() == pytest.approx(1.0, abs=0.005)
