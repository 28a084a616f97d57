"""Sources of frames."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from isp_env.cache import PreviewCache
from isp_env.embedded import write_embedded_scenes
from isp_env.frame import RawBatch, RawFrame
from isp_env.raw import read_raw
from isp_env.sources import MemoryFrames, RawFolder, group_by_shape, load_frames, unique_names


@pytest.fixture(scope="module")
def raws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raws")
    write_embedded_scenes(folder, seed=0, raws_a_scene=1, size=(64, 96))
    return folder


def test_a_folder_of_raws_gives_their_frames_in_order(raws):
    source = RawFolder([raws])
    assert list(source.names) == sorted(path.stem for path in raws.iterdir())
    assert source.failures == []
    frames = load_frames(source, short_side=32)
    assert [frame.name for frame in frames] == list(source.names)
    torch.testing.assert_close(frames[2].image, read_raw(source.paths[2], 32).image)
    assert source.libraw_auto(2, 32).shape == frames[2].image.shape


def test_broken_files_are_named_and_left_out(raws, tmp_path):
    good = next(raws.iterdir())
    shutil.copy(good, tmp_path / "good.dng")
    (tmp_path / "cut.dng").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "empty.nef").touch()
    (tmp_path / "text.dng").write_text("no raw")
    source = RawFolder([tmp_path])
    assert list(source.names) == ["good"]
    assert [path.name for path, _ in source.failures] == ["cut.dng", "empty.nef", "text.dng"]
    assert all(str(path) in sentence for path, sentence in source.failures)


def test_nothing_readable_is_an_error_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no image was found"):
        RawFolder([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        RawFolder([tmp_path / "missing"])
    (tmp_path / "a.dng").touch()
    with pytest.raises(InputError, match=r"none of 1 files .* is empty"):
        RawFolder([tmp_path])


def test_how_raws_are_decoded_can_be_chosen_and_is_part_of_the_cache(raws, tmp_path):
    cache = PreviewCache(tmp_path)
    path = next(raws.iterdir())
    for decode in ({}, {"demosaic": "half"}, {"demosaic": "bilinear", "balance": "daylight"}):
        for _ in range(2):  # decoded, then from the cache
            frame = RawFolder([path], cache=cache, **decode).frame(0, 32)
            expected = read_raw(path, 32, **decode)
            torch.testing.assert_close(frame.image, expected.image)
            torch.testing.assert_close(frame.white_balance, expected.white_balance)


def test_files_of_one_name_are_told_apart(raws, tmp_path):
    path = next(raws.iterdir())
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(path, tmp_path / folder / "x.dng")
    shutil.copy(path, tmp_path / "y.dng")
    assert sorted(RawFolder([tmp_path, tmp_path / "y.dng"]).names) == ["a_x.dng", "b_x.dng", "y"]


def test_names_differ_even_where_paths_joined_agree():
    paths = [Path("/x/a_b/p/c.dng"), Path("/x/a/b/p/c.dng"), Path("/x/p/d.dng"), Path("/x/p/D.DNG")]
    names = unique_names([*paths, Path("/x/p/d.dng.png")])
    assert len({name.casefold() for name in names}) == 5
    assert names[-1] == "d.dng"  # its stem, which no other has


def test_a_file_is_one_however_it_is_spelt_and_hidden_ones_are_none(raws, tmp_path):
    path = next(raws.iterdir())
    (tmp_path / "folder" / ".trash").mkdir(parents=True)
    for name in ("x.dng", "._x.dng", ".trash/y.dng"):  # macOS writes the second beside the first
        shutil.copy(path, tmp_path / "folder" / name)
    spelt = tmp_path / "folder" / ".." / "folder" / "x.dng"
    assert RawFolder([tmp_path / "folder", spelt]).paths == [tmp_path / "folder" / "x.dng"]
    assert RawFolder([tmp_path / "folder" / "._x.dng"]).names == ["._x"]  # named, so it is meant


def test_photographs_stand_beside_raws(raws, tmp_path):
    shutil.copy(next(raws.iterdir()), tmp_path / "raw.dng")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    source = RawFolder([tmp_path])
    assert list(source.names) == ["photograph", "raw"]
    display = source.libraw_auto(0, 999).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(display, pixels / 255, atol=1e-5)


def _frame(height: int, width: int) -> RawFrame:
    return RawFrame(torch.rand(3, height, width), torch.ones(3), torch.eye(3), "memory", "0" * 64)


def test_frames_in_memory_are_a_source():
    frame = _frame(8, 12)
    source = MemoryFrames([frame], [frame.image])
    torch.testing.assert_close(source.frame(0, 8).image, frame.image)
    torch.testing.assert_close(source.frame(0, 4).image.mean(), frame.image.mean())
    assert source.libraw_auto(0, 4).shape == (3, 4, 6)
    with pytest.raises(InputError, match="give renders"):
        MemoryFrames([frame]).libraw_auto(0, 4)
    with pytest.raises(ValueError, match="as large as"):
        MemoryFrames([frame], [torch.rand(3, 4, 4)])


def test_frames_of_one_shape_form_a_group_that_can_be_stacked():
    frames = [_frame(4, 6), _frame(6, 4), _frame(4, 6)]
    groups = group_by_shape(frames)
    assert groups == {(4, 6): [0, 2], (6, 4): [1]}
    assert len(RawBatch.stack([frames[index] for index in groups[4, 6]])) == 2
