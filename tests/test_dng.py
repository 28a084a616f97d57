"""The DNG writer, read back by LibRaw."""

from __future__ import annotations

import colour
import numpy as np
import pytest
import rawpy
import tifffile

from attiqa.errors import InputError
from isp_env.dng import BAYER_PATTERNS, write_dng

NEUTRAL = (0.5, 1.0, 0.625)
# XYZ (D65) to camera of the Canon 6D, as its DNG files carry it
MATRIX = np.array([[0.7034, -0.0804, -0.1014], [-0.4420, 1.2564, 0.2058], [-0.0851, 0.1994, 0.5758]])


def _mosaic(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(300, 4000, (height, width)).astype(np.uint16)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_libraw_reads_the_numbers_that_were_written(tmp_path, pattern):
    path, mosaic = tmp_path / "a.dng", _mosaic()
    write_dng(path, mosaic, NEUTRAL, MATRIX, (256, 257, 258, 259), 4095, pattern)
    with rawpy.imread(str(path)) as raw:
        np.testing.assert_array_equal(raw.raw_image, mosaic)
        names = "".join("RGBG"[index] for index in raw.raw_pattern.ravel())
        assert names == pattern
        assert raw.white_level == 4095
        # LibRaw keeps one black a colour: red, green, blue, second green
        levels = dict(zip(raw.raw_pattern.ravel(), (256, 257, 258, 259), strict=True))
        assert raw.black_level_per_channel == [levels[index] for index in range(4)]
        np.testing.assert_allclose(raw.camera_whitebalance[:3], [2.0, 1.0, 1.6], rtol=1e-5)


def test_libraw_derives_the_colour_matrix_from_the_tag(tmp_path):
    path = tmp_path / "a.dng"
    write_dng(path, _mosaic(), NEUTRAL, MATRIX)
    with rawpy.imread(str(path)) as raw:
        # camera from linear sRGB by colour-science's matrix, white mapped to white
        camera = MATRIX @ colour.RGB_COLOURSPACES["sRGB"].matrix_RGB_to_XYZ
        expected = np.linalg.inv(camera / camera.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(raw.color_matrix[:, :3], expected, atol=1e-3)


def test_a_linear_dng_has_no_mosaic_and_keeps_its_numbers(tmp_path):
    path = tmp_path / "a.dng"
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    write_dng(path, pixels, (1.0, 1.0, 1.0), MATRIX)
    with rawpy.imread(str(path)) as raw:
        assert raw.raw_pattern is None
        np.testing.assert_array_equal(raw.raw_image[..., :3], pixels)


@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_libraw_turns_the_picture_upright(tmp_path, orientation, turns):
    path, mosaic = tmp_path / "a.dng", _mosaic()
    write_dng(path, mosaic, NEUTRAL, MATRIX, orientation=orientation)
    with rawpy.imread(str(path)) as raw:
        turned = raw.postprocess(half_size=True)
    write_dng(path, mosaic, NEUTRAL, MATRIX)
    with rawpy.imread(str(path)) as raw:
        np.testing.assert_array_equal(turned, np.rot90(raw.postprocess(half_size=True), turns))


def test_the_file_is_a_valid_tiff_with_dng_tags(tmp_path):
    path = tmp_path / "a.dng"
    write_dng(path, _mosaic(), NEUTRAL, MATRIX)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        assert tags["PhotometricInterpretation"].value == 32803
        assert tags["DNGVersion"].value == bytes((1, 4, 0, 0))
        assert tags["CFAPattern"].value == bytes((0, 1, 1, 2))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pixels": np.zeros((3, 4), np.uint16)}, "even sides"),
        ({"pixels": np.zeros((4, 4), np.float32)}, "float32"),
        ({"as_shot_neutral": (0.5, 0.0, 1.0)}, "three values"),
        ({"pattern": "RGBG"}, "no pattern of a sensor"),
        ({"orientation": 0}, "orientation 0"),
    ],
)
def test_what_no_dng_can_hold_is_refused(tmp_path, change, message):
    arguments = {"pixels": _mosaic(), "as_shot_neutral": NEUTRAL, "color_matrix": MATRIX} | change
    with pytest.raises(InputError, match=message):
        write_dng(tmp_path / "a.dng", **arguments)
    assert not list(tmp_path.iterdir())
