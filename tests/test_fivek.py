"""FiveK: names, splits, raws, experts."""

from __future__ import annotations

import json

import colour
import numpy as np
import pytest
import tifffile
import torch

from attiqa.errors import InputError
from isp_env.embedded import write_embedded_scenes
from isp_env.fivek import FiveK, number_of, read_expert, read_names, read_split

NAMES = ["a0001-jmac_DSC1459", "a4607-050801_080948__I2E5512", "a4933-x"]


@pytest.fixture
def root(tmp_path):
    """Three raws under FiveK's names, and expert C's retouch of the first."""
    train, _ = write_embedded_scenes(tmp_path / "scenes", 0, raws_a_scene=1, size=(32, 48))
    (tmp_path / "dng").mkdir()
    for name, path in zip(NAMES, train, strict=False):
        path.rename(tmp_path / "dng" / f"{name}.dng")
    write_tiff(tmp_path / "tiff16_c" / f"{NAMES[0]}.tif")
    return tmp_path


def write_tiff(path, pixels=None, profile: bytes | None = b"desc ProPhoto RGB"):
    path.parent.mkdir(exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 65536, (32, 48, 3)).astype(np.uint16)
    tags = [] if profile is None else [(34675, 7, len(profile), profile, True)]
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags)
    return pixels


def test_the_raws_that_are_there_are_a_source(root):
    source = FiveK(root)
    assert list(source.names) == NAMES
    assert source.frame(1, 32).image.shape == (3, 32, 48)
    assert source.missing == []


def test_a_split_chooses_the_pictures_and_tells_what_is_missing(root):
    source = FiveK(root, numbers=[4607, 2, 1])
    assert list(source.names) == [NAMES[1], NAMES[0]]
    assert source.missing == [2]
    with pytest.raises(InputError, match="none of the FiveK raws"):
        FiveK(root, numbers=[2, 3])


def test_an_expert_is_converted_as_colour_science_does(root):
    path = root / "tiff16_c" / f"{NAMES[0]}.tif"
    pixels = tifffile.imread(path) / 65535
    spaces = [colour.RGB_COLOURSPACES[name].copy() for name in ("ProPhoto RGB", "sRGB")]
    for space in spaces:
        space.use_derived_transformation_matrices(True)
    linear = colour.RGB_to_RGB(
        colour.models.cctf_decoding_ROMMRGB(pixels), *spaces, chromatic_adaptation_transform="Bradford"
    )
    expected = colour.models.eotf_inverse_sRGB(np.clip(linear, 0, 1))
    ours = FiveK(root).expert(0, "c").permute(1, 2, 0)
    np.testing.assert_allclose(ours, expected, atol=2e-5)
    assert read_expert(path, short_side=16).shape == (3, 16, 24)


def test_grey_stays_grey_from_one_white_point_to_the_other(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 48).reshape(32, 48, 1).repeat(3, 2).astype(np.uint16)
    write_tiff(tmp_path / "grey.tif", ramp, profile=None)
    display = read_expert(tmp_path / "grey.tif")
    torch.testing.assert_close(display[0], display[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(display[2], display[1], atol=1e-5, rtol=0)


def test_what_is_no_retouch_is_refused(root):
    source, path = FiveK(root), root / "x.tif"
    with pytest.raises(InputError, match="experts are a, b"):
        source.expert(0, "f")
    with pytest.raises(InputError, match="not a file"):
        source.expert(1, "c")
    write_tiff(path, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="uint8"):
        read_expert(path)
    write_tiff(path, profile=b"desc sRGB IEC61966-2.1")
    with pytest.raises(InputError, match="another colour profile"):
        read_expert(path)
    path.write_bytes(b"II*\0broken")
    with pytest.raises(InputError, match="cannot be decoded"):
        read_expert(path)


def test_names_are_read_from_every_form_of_list(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({name: {} for name in reversed(NAMES)}))
    (tmp_path / "a.csv").write_text("file_id,make\n" + "".join(f"{name},Canon\n" for name in NAMES))
    (tmp_path / "filesAdobe.txt").write_text("\n".join(NAMES))
    for file in ("a.json", "a.csv", "filesAdobe.txt"):
        assert read_names(tmp_path / file) == NAMES
    (tmp_path / "bad.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="column file_id"):
        read_names(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="no FiveK name"):
        number_of("IMG_0001")


def test_the_last_500_are_a_split_by_rule():
    split = read_split("upe")
    assert (len(split.train), split.test[0], split.test[-1]) == (4500, 4501, 5000)


def test_bad_splits_are_refused(tmp_path):
    with pytest.raises(InputError, match="take one of upe, exposure"):
        read_split("mine")
    with pytest.raises(InputError, match="name the folder"):
        read_split("exposure")
    with pytest.raises(InputError, match="does not exist"):
        read_split("halves", tmp_path)
    for file, text in (("train_idx.txt", "1\n2\n"), ("test_idx.txt", "# ids\n5001\n")):
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match="'5001'"):
        read_split("halves", tmp_path)


def test_published_lists_are_read(data_root):
    names = read_names(data_root / "fivek" / "metadata" / "camera_models.csv")
    assert [number_of(name) for name in names] == list(range(1, 5001))
    assert len(read_names(data_root / "fivek" / "metadata" / "debug.json")) == 9
    split = read_split("exposure", data_root / "fivek" / "splits_exposure")
    assert (len(split.train), len(split.test)) == (4000, 1000)
    assert not set(split.train) & set(split.test)
    amt = read_split("exposure-amt", data_root / "fivek" / "splits_exposure")
    assert set(amt.test) <= set(split.test)
