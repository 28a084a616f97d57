"""Folders of photographs as sources of raws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from isp_env.photographs import UnprocessedPhotographs, write_scene


@pytest.fixture
def folder(tmp_path):
    """Two photographs of other shapes and a broken one."""
    for number, shape in enumerate([(80, 120, 3), (150, 90, 3)]):
        noise = np.random.default_rng(number).integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(noise).resize(shape[1::-1]).save(tmp_path / f"p{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    return tmp_path


def test_photographs_become_a_source_of_raws_of_one_size(folder):
    source = UnprocessedPhotographs([folder], raws_each=2, size=(48, 64))
    assert list(source.names) == ["p0-00001-00", "p0-00001-01", "p1-00002-00", "p1-00002-01"]
    frames = [source.frame(index, 48) for index in range(4)]
    assert {frame.image.shape for frame in frames} == {(3, 48, 64)}
    assert not torch.equal(frames[0].white_balance, frames[1].white_balance)
    assert source.libraw_auto(0, 48).shape == (3, 48, 64)


def test_a_broken_photograph_is_named_and_left_out(folder):
    source = UnprocessedPhotographs([folder], size=(48, 64))
    assert [path.name for path, _ in source.failures] == ["broken.png"]
    (folder / "p0.png").unlink()
    (folder / "p1.png").unlink()
    with pytest.raises(InputError, match="none of 1 photographs can be read"):
        UnprocessedPhotographs([folder])


def test_a_seed_repeats_exactly(folder, tmp_path):
    def raws(seed: int, name: str) -> list[bytes]:
        source = UnprocessedPhotographs([folder], seed, size=(48, 64), folder=tmp_path / name)
        return [path.read_bytes() for path in source.paths]

    assert raws(1, "a") == raws(1, "b") != raws(2, "c")


def test_the_crop_keeps_the_aspect_of_the_scene(tmp_path):
    grid = np.zeros((200, 200, 3), np.uint8)
    grid[::20], grid[:, ::20] = 255, 255
    Image.fromarray(grid).save(tmp_path / "grid.png")
    draw = torch.Generator().manual_seed(0)
    (path,) = write_scene(tmp_path, "grid", tmp_path / "grid.png", 1, (200, 200), generator=draw)
    green = UnprocessedPhotographs([tmp_path / "grid.png"], size=(200, 200)).frame(0, 200).image[1]
    rows, columns = (torch.fft.rfft(green.mean(dim=d) - green.mean()).abs().argmax() for d in (0, 1))
    assert path.name == "grid-00.dng"
    assert rows == columns  # as many lines across as down
