"""The raw front end against LibRaw's own render, and on files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy
import torch
from PIL import Image

from attiqa.errors import InputError
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.dng import write_dng
from isp_env.frame import RawBatch, RawFrame
from isp_env.pipeline import Pipeline
from isp_env.raw import RAW_SUFFIXES, read_libraw_auto, read_photograph_as_frame, read_raw, shrink
from isp_env.saturation import saturation

# XYZ (D65) to camera of the Canon 6D, as its DNG files carry it
MATRIX = np.array([[0.7034, -0.0804, -0.1014], [-0.4420, 1.2564, 0.2058], [-0.0851, 0.1994, 0.5758]])
DEMOSAICS = ["half", "linear", "ppg", "ahd", "dht"]


@pytest.fixture
def dng(tmp_path) -> Path:
    """A Bayer DNG of smooth colours with a saturated corner, black level 256, turned by EXIF."""
    rows, columns = np.mgrid[0:240, 0:320] / 320
    red, green, blue = 0.3 + 0.1 * np.sin(9 * rows), 0.2 + 0.6 * columns, 0.2 + 0.3 * rows * columns
    mosaic = np.where(rows * 320 % 2 < 1, red, green)
    mosaic[0::2, 1::2], mosaic[1::2, 1::2] = green[0::2, 1::2], blue[1::2, 1::2]
    mosaic[:40, :40] = 1.0
    path = tmp_path / "own.dng"
    levels = np.rint(256 + mosaic * (16383 - 256)).astype(np.uint16)
    write_dng(path, levels, (0.5, 1.0, 0.625), MATRIX, (256,) * 4, 16383, orientation=6)
    return path


def neutral(frame: RawFrame) -> np.ndarray:
    """The pipeline's neutral render, display sRGB ``(H, W, 3)``."""
    return Pipeline().neutral(RawBatch.stack([frame]))[0].permute(1, 2, 0).double().numpy()


def white_of(path: Path) -> int | None:
    """What is white in the file, by the peak of its saturated pixels."""
    red, green, blue = read_raw(path, short_side=64).white_balance.double().tolist()
    with rawpy.imread(str(path)) as raw:
        return saturation(raw).white_for(np.array([red, green, blue, green]))


def libraw_render(path: Path, demosaic: str) -> np.ndarray:
    """LibRaw's own neutral render, display sRGB ``(H, W, 3)`` in [0, 1], with the white that we found."""
    size = {"demosaic_algorithm": rawpy.DemosaicAlgorithm[demosaic.upper()]} if demosaic != "half" else {}
    with rawpy.imread(str(path)) as raw:
        pixels = raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            gamma=(2.4, 12.92),
            output_bps=16,
            half_size=demosaic == "half",
            user_sat=white_of(path),
            **size,
        )
    return pixels / 65535.0


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(1 / np.mean((a - b) ** 2)))


@pytest.mark.parametrize("demosaic", DEMOSAICS)
def test_neutral_render_of_an_own_dng_matches_libraw(dng, demosaic):
    frame = read_raw(dng, demosaic=demosaic, highlights="clip")
    assert frame.image.shape[1] > frame.image.shape[2]  # EXIF orientation 6 makes it upright
    assert psnr(neutral(frame), libraw_render(dng, demosaic)) >= 60


@pytest.mark.parametrize(
    "name, demosaics",
    [
        ("RAW_NIKON_D1.NEF", DEMOSAICS),
        ("GOPRO_HERO6.dng", ["half", "ppg"]),
        ("GOPRO_FUSION.dng", ["half", "linear"]),
        ("LG_G4_linear.dng", ["half", "ahd"]),
        ("CANON_EOS_6D_linear.dng", ["half", "ppg"]),
        # no matrix in the file: the measured one serves as well
        ("RAW_KODAK_DC50.KDC", ["half", "ahd"]),
        # no as-shot balance: LibRaw's automatic one
        ("CANON_EOS_D30.CRW", ["half"]),
    ],
)
def test_neutral_render_of_camera_files_matches_libraw(data_root, name, demosaics):
    path = data_root / "raws" / name
    for demosaic in demosaics:
        expected = libraw_render(path, demosaic)
        kept, clipped = (
            neutral(read_raw(path, demosaic=demosaic, highlights=highlights, correct_lens=False))
            for highlights in ("keep", "clip")
        )
        assert psnr(kept, expected) >= 50
        assert psnr(clipped, expected) >= 70


def test_blown_clouds_are_white_where_green_saturates_early(data_root):
    """Of the GoPro's brightest pixels: LibRaw's own white leaves them pink."""
    path = data_root / "raws" / "GOPRO_HERO6.dng"
    with rawpy.imread(str(path)) as raw:
        pink = raw.postprocess(use_camera_wb=True, no_auto_bright=True, half_size=True) / 255.0
    found = neutral(read_raw(path, demosaic="half"))
    blown = pink.max(axis=2) == 1.0
    assert 0.05 < blown.mean() < 0.2
    tint = [np.median(np.ptp(picture[blown], axis=1)) for picture in (pink, found)]
    assert tint[0] > 0.015
    assert tint[1] == 0.0


def early_green(path: Path, at: float, noise: float = 0.002) -> Path:
    """A raw of a ramp beyond white, the green pixels of which saturate at a share of white."""
    light = np.linspace(0.0, 2.0, 400)[None].repeat(300, axis=0)
    ends = np.ones_like(light)
    ends[0::2, 1::2] = ends[1::2, 0::2] = at
    generator = np.random.default_rng(0)
    mosaic = np.minimum(light, ends) * (1 + noise * generator.standard_normal(light.shape))
    levels = np.rint(mosaic.clip(0, 1) * 16383).astype(np.uint16)
    write_dng(path, levels, (0.5, 1.0, 0.625), MATRIX, (0,) * 4, 16383)
    return path


@pytest.mark.parametrize("demosaic", ["half", "bilinear"])
def test_white_is_where_the_first_balanced_colour_saturates(tmp_path, demosaic):
    path = early_green(tmp_path / "early.dng", 0.93)
    assert white_of(path) == pytest.approx(0.93 * 16383, rel=0.01)
    picture = neutral(read_raw(path, demosaic=demosaic))
    assert np.median(picture[:, -picture.shape[1] // 4 :], axis=(0, 1)) == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("at", [0.99, 0.5])
def test_a_white_that_is_nearly_right_or_a_mere_end_of_light_is_left_alone(tmp_path, at):
    assert white_of(early_green(tmp_path / "late.dng", at)) is None


def test_a_bright_even_wall_is_no_saturation(tmp_path):
    generator = np.random.default_rng(0)
    wall = 0.9 * (1 + 0.02 * generator.standard_normal((300, 400)))  # photons scatter, saturation does not
    wall[0, 0] = 1.0
    levels = np.rint(wall.clip(0, 1) * 16383).astype(np.uint16)
    write_dng(tmp_path / "wall.dng", levels, (0.5, 1.0, 0.625), MATRIX, (0,) * 4, 16383)
    assert white_of(tmp_path / "wall.dng") is None


def test_a_frame_is_camera_linear_before_white_balance(dng):
    frame = read_raw(dng, demosaic="half")
    assert frame.image.dtype == torch.float32
    torch.testing.assert_close(frame.white_balance, torch.tensor([2.0, 1.0, 1.6]), rtol=1e-4, atol=0)
    # the mosaic's green ramp, whatever the balance; orientation 6 runs its columns downwards
    np.testing.assert_allclose(frame.image[1, 80, 30], 0.2 + 0.6 * 160.5 / 320, atol=2e-3)
    np.testing.assert_allclose(frame.image[:, 5, -5], 1.0, atol=1e-4)
    assert len(frame.digest) == 64
    assert frame.notes == ()


def test_the_short_side_is_averaged_down_and_never_up(dng):
    assert read_raw(dng, short_side=60).image.shape == (3, 80, 60)
    assert read_raw(dng, short_side=200).image.shape == (3, 267, 200)
    assert read_raw(dng, short_side=999).image.shape == (3, 320, 240)
    # the half-size image is averaged where the sensor has 8 pixels for one, else the full one
    for short_side, demosaic in ((30, "half"), (60, "ppg")):
        shrunk = read_raw(dng, short_side, highlights="clip").image
        whole = read_raw(dng, demosaic=demosaic, highlights="clip").image
        torch.testing.assert_close(shrunk.mean(), whole.mean(), rtol=1e-3, atol=0)


def test_the_neutral_preview_is_the_full_neutral_render_shrunk(data_root):
    pipeline = Pipeline()
    for path in sorted((data_root / "raws").iterdir()):
        if "FUSION" in path.name:
            continue  # as the other GoPro, and slow
        full, preview = read_raw(path), read_raw(path, short_side=256)
        render = srgb_to_linear(pipeline.render_full(full, pipeline.space.neutral))
        expected = linear_to_srgb(shrink(render, 256))
        assert psnr(neutral(preview), expected.permute(1, 2, 0).double().numpy()) >= 45, path.name


def test_a_light_that_covers_half_a_pixel_is_half_as_bright_in_the_preview(tmp_path):
    # saturated and black columns: after the balance, what was averaged before clipping would be white
    levels = np.where(np.arange(320) % 2 < 1, 16383, 0).astype(np.uint16)
    path = tmp_path / "stripes.dng"
    write_dng(
        path, np.tile(levels[:, None], (1, 240)).repeat(2, 0), (0.25, 1.0, 0.25), MATRIX, (0,) * 4, 16383
    )
    light = srgb_to_linear(torch.from_numpy(neutral(read_raw(path, short_side=60, demosaic="half"))))
    np.testing.assert_allclose(light[20:-20].mean(), 0.5, atol=0.02)


def test_libraw_auto_is_as_large_as_the_frame_and_display_referred(dng):
    for short_side in (60, 200, None):
        auto = read_libraw_auto(dng, short_side)
        assert auto.shape == read_raw(dng, short_side).image.shape
        assert 0 <= auto.min() <= auto.max() <= 1


def test_a_missing_balance_or_matrix_is_told_in_the_notes(data_root):
    notes = [
        read_raw(data_root / "raws" / name, 64).notes for name in ("CANON_EOS_D30.CRW", "RAW_KODAK_DC50.KDC")
    ]
    assert "no as-shot white balance" in notes[0][0]
    assert "no colour matrix" in notes[1][0]


def test_the_balance_is_as_shot_daylight_or_automatic(dng):
    frames = {kind: read_raw(dng, 60, balance=kind) for kind in ("as_shot", "daylight", "auto")}
    with rawpy.imread(str(dng)) as raw:
        daylight = torch.tensor(raw.daylight_whitebalance[:3])
    torch.testing.assert_close(frames["daylight"].white_balance, daylight / daylight.min())
    gains = torch.stack([frame.white_balance for frame in frames.values()])
    assert (gains.amin(dim=1) == 1).all()
    assert not torch.allclose(gains[0], gains[2])
    with pytest.raises(InputError, match="as_shot, daylight, auto"):
        read_raw(dng, balance="candle")


def test_highlights_are_kept_clipped_to_the_balance_or_rebuilt(dng):
    kept, clipped = (read_raw(dng, demosaic="half", highlights=mode) for mode in ("keep", "clip"))
    torch.testing.assert_close(kept.image.amax((1, 2)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(clipped.image.amax((1, 2)), 1 / clipped.white_balance, atol=1e-4, rtol=0)
    assert read_raw(dng, demosaic="half", highlights="blend").image.max() > 1.0


def test_the_neutral_render_of_a_photograph_is_the_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    frame = read_photograph_as_frame(tmp_path / "a.png")
    np.testing.assert_allclose(neutral(frame), pixels / 255, atol=1e-5)
    shrunk = read_photograph_as_frame(tmp_path / "a.png", short_side=20).image
    expected = srgb_to_linear(torch.from_numpy(pixels / 255)).reshape(20, 2, 25, 2, 3).mean((1, 3))
    torch.testing.assert_close(shrunk, expected.permute(2, 0, 1).float())


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (_truncated, "not all of one"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("a text, not a raw\n" * 99), "no raw file that LibRaw"),
        (lambda path: path.unlink(), "is not a file"),
    ],
)
def test_files_that_are_no_raw_are_refused_in_a_sentence(dng, spoil, message):
    spoil(dng)
    for read in (read_raw, read_libraw_auto):
        with pytest.raises(InputError, match=message):
            read(dng)


def test_an_unknown_demosaic_is_refused_with_the_known_ones(dng):
    with pytest.raises(InputError, match="half, bilinear, linear"):
        read_raw(dng, demosaic="cubic")
    with pytest.raises(InputError, match="LibRaw's work"):
        read_raw(dng, demosaic="bilinear", highlights="blend")


def test_raw_suffixes_are_lower_case_with_a_dot():
    assert {".dng", ".cr3", ".nef", ".kdc", ".crw"} <= RAW_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in RAW_SUFFIXES)
