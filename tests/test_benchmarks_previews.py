"""benchmarks/previews.py: pixels and ranks of one raw at two sizes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.previews import LOCAL, compare_pixels, compare_ranks, main
from isp_env.frame import RawFrame
from isp_env.raw import shrink


@pytest.fixture
def pair() -> tuple[RawFrame, RawFrame]:
    """A smooth scene at 192 x 256 and at half of that."""
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16) * 0.5, (192, 256), mode="bicubic")[0]
    full = RawFrame(image.clamp(0.02, 0.9), torch.ones(3), torch.eye(3), "scene", "0" * 64)
    return full, dataclasses.replace(full, image=shrink(full.image, 96))


def test_a_preview_agrees_and_another_scene_does_not(pair: tuple[RawFrame, RawFrame]) -> None:
    full, preview = pair
    found = compare_pixels(full, preview, torch.Generator().manual_seed(0))
    assert found["neutral"] > 40
    assert found["together"] > 30
    assert found["local"].keys() == set(LOCAL)
    assert min(found["local"].values()) > 34
    other = dataclasses.replace(preview, image=preview.image.flip(-1))
    assert compare_pixels(full, other, torch.Generator().manual_seed(0))["neutral"] < 30


def test_a_reward_that_looks_at_the_picture_ranks_both_sizes_alike(pair: tuple[RawFrame, RawFrame]) -> None:
    def brightness(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))

    def nearness(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return -(images - reference).abs().mean(dim=(1, 2, 3))

    nearness.uses_reference = True  # type: ignore[attr-defined]
    for reward in (brightness, nearness):
        assert compare_ranks(*pair, reward, 12, 1.0, torch.Generator().manual_seed(0)) > 0.95


def test_the_command_prints_a_table_and_writes_a_record(tmp_path: Path, capsys) -> None:
    Image.effect_noise((120, 90), 40).convert("RGB").save(tmp_path / "photo.png")
    arguments = [
        "--raws",
        str(tmp_path),
        "--reward",
        "none",
        "--short-side",
        "64",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert "| photo.png" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "record.json").read_text())["raws"]
    assert row["size"] == [90, 120]
    assert main(["--settings", "1"]) == 2
    assert "--settings is 2 or more" in capsys.readouterr().err
