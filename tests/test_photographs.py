"""Folders of photographs as sources of raws."""

from __future__ import annotations

import numpy as np
import pytest
import rawpy
import torch
from PIL import Image

from attiqa.errors import InputError
from isp_env.color import linear_to_srgb
from isp_env.photographs import (
    CAREFUL,
    HURRIED,
    MANY_SCENES,
    Errors,
    UnprocessedPhotographs,
    Variety,
    write_scene,
)
from isp_env.raw import read_raw


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


def test_errors_are_taken_in_turn(tmp_path):
    Image.fromarray(np.full((120, 160, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    dark = Errors((-2.0, -2.0), (0.0, 0.0), (1.0, 1.0), (1e-6, 1e-6))
    right = Errors((0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1e-6, 1e-6))
    draw = torch.Generator().manual_seed(0)
    paths = write_scene(
        tmp_path, "grey", tmp_path / "grey.png", 5, (60, 80), errors=(right, dark), generator=draw
    )
    light = torch.tensor([float(read_raw(path).image[1].mean()) for path in paths])
    torch.testing.assert_close(light[1::2], light[:4:2] / 4, rtol=0.02, atol=0)
    torch.testing.assert_close(light[::2], light[:1].expand(3), rtol=0.02, atol=0)


def test_what_a_camera_leaves_in_good_light_has_all_colours_of_a_pixel(tmp_path):
    rows = np.linspace(20, 200, 160).astype(np.uint8)
    Image.fromarray(np.broadcast_to(rows[:, None, None], (160, 200, 3)).copy()).save(tmp_path / "ramp.png")
    draw = torch.Generator().manual_seed(0)
    paths = write_scene(
        tmp_path, "ramp", tmp_path / "ramp.png", 4, (60, 80), errors=(HURRIED, CAREFUL), generator=draw
    )
    for path, mosaic in zip(paths, (True, False) * 2, strict=True):
        with rawpy.imread(str(path)) as raw:
            assert (raw.raw_pattern is not None) == mosaic
    assert read_raw(paths[1]).image.shape == (3, 60, 80)
    kept = UnprocessedPhotographs([tmp_path / "ramp.png"], size=(60, 80), errors=(CAREFUL,))
    with rawpy.imread(str(kept.paths[0])) as raw:
        assert raw.raw_pattern is None


def test_scenes_of_one_photograph_are_restyled_and_mirrored_where_asked(tmp_path):
    rows, columns = np.mgrid[0:300, 0:400]
    ramp = np.stack([rows / 300, columns / 400, 0.5 + 0 * rows], axis=-1)
    Image.fromarray((255 * ramp).astype(np.uint8)).save(tmp_path / "ramp.png")

    def looks(name: str, variety: Variety) -> torch.Tensor:
        draw = torch.Generator().manual_seed(1)
        paths = write_scene(tmp_path, name, tmp_path / "ramp.png", 24, (60, 80), variety, generator=draw)
        frames = [read_raw(path) for path in paths]
        balanced = [frame.image * frame.white_balance[:, None, None] for frame in frames]
        return torch.stack([linear_to_srgb(image.clamp(0, 1)) for image in balanced])

    plain, various = looks("plain", Variety()), looks("various", MANY_SCENES)
    grey = looks("grey", Variety(saturation=(0.0, 0.0)))
    assert plain.shape == various.shape

    def chroma(images: torch.Tensor) -> float:
        spread = images.mean(dim=(2, 3), keepdim=True)  # an error of the balance is no colour of the scene
        return float((images / spread).std(dim=1).mean())

    assert chroma(grey) < 0.25 * chroma(plain)
    left_is_greener = various[:, 1, :, :40].mean(dim=(1, 2)) > various[:, 1, :, 40:].mean(dim=(1, 2))
    assert 0 < int(left_is_greener.sum()) < 24  # mirrored at times
    upright = plain[:, 1, :, :40].mean(dim=(1, 2)) > plain[:, 1, :, 40:].mean(dim=(1, 2))
    assert not upright.any()
