"""Reduced photographs on disk are those that were decoded, and are decoded again when a file changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from attiqa.training.finetuning import RatedImages
from attiqa.training.pixels import INDEX, PIXELS, discard_pixels, stored_pixels


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + 8 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


def test_images_from_a_file_are_those_from_memory(paths, tmp_path):
    mos = np.linspace(0, 1, 4)
    memory, disk = RatedImages(paths, mos, 32), RatedImages(paths, mos, 32, tmp_path / "run")
    again = RatedImages(paths, mos, 32, tmp_path / "run")
    assert memory.rows == disk.rows == again.rows == [0, 1, 3]
    assert memory.failures == disk.failures == again.failures
    assert "2.png" in disk.failures[0][1]
    for one, other, third in zip(memory.images, disk.images, again.images, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)
    crops = [
        images.random_crops([2, 0], 24, torch.Generator().manual_seed(1))
        for images in (memory, disk.subset(np.arange(3)))
    ]
    assert torch.equal(*crops)


def test_pixels_are_decoded_again_only_when_something_changed(paths, tmp_path):
    decodings: list[int] = []

    def decoded() -> Iterator[torch.Tensor | InputError]:
        decodings.append(1)
        yield from (torch.full((3, 2, number + 1), number, dtype=torch.uint8) for number in range(4))

    def found(side: int = 32) -> list[torch.Tensor | InputError]:
        return stored_pixels(tmp_path, paths, side, decoded)

    assert [image.tolist() for image in found()] == [image.tolist() for image in found()]  # type: ignore[union-attr]
    assert len(decodings) == 1
    found(64)
    assert len(decodings) == 2
    found()
    os.utime(paths[0], (1, 1))
    found()
    assert len(decodings) == 4
    (tmp_path / PIXELS).write_bytes((tmp_path / PIXELS).read_bytes()[:-1])  # a disk that was full
    found()
    (tmp_path / INDEX).write_text("[]")
    found()
    assert len(decodings) == 6


def test_what_is_looked_at_survives_the_file(paths, tmp_path):
    images = RatedImages(paths, np.zeros(4), 32, tmp_path)
    before = images.images[0].clone()
    discard_pixels(tmp_path)
    assert not (tmp_path / PIXELS).exists()
    assert torch.equal(images.images[0], before)
