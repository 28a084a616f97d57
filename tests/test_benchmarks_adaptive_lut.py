"""Image-Adaptive-3DLUT from local files: its tables' sum, and a sentence where files are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from benchmarks.adaptive_lut import AdaptiveLut, render
from benchmarks.enhancement import list_scenes
from benchmarks.fivek import main

SIZE = 5


def network(shares: tuple[float, float, float]) -> dict[str, torch.Tensor]:
    """A classifier under its authors' names that gives every picture the same shares."""
    tensors: dict[str, torch.Tensor] = {}
    widths = (3, 16, 32, 64, 128, 128)
    for block in range(5):
        layer = 1 + 3 * block
        tensors[f"model.{layer}.weight"] = torch.zeros(widths[block + 1], widths[block], 3, 3)
        tensors[f"model.{layer}.bias"] = torch.zeros(widths[block + 1])
        if block < 4:  # the last block has no norm
            tensors[f"model.{layer + 2}.weight"] = torch.ones(widths[block + 1])
            tensors[f"model.{layer + 2}.bias"] = torch.zeros(widths[block + 1])
    return tensors | {"model.16.weight": torch.zeros(3, 128, 8, 8), "model.16.bias": torch.tensor(shares)}


def tables() -> dict[str, dict[str, torch.Tensor]]:
    """What a colour was, its red and blue exchanged, and a grey of .1."""
    blue, green, red = torch.meshgrid(*[torch.linspace(0, 1, SIZE)] * 3, indexing="ij")
    held = (
        torch.stack([red, green, blue]),
        torch.stack([blue, green, red]),
        torch.full((3, *[SIZE] * 3), 0.1),
    )
    return {str(number): {"LUT": table} for number, table in enumerate(held)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(network((0.5, 0.0, 1.0)), folder / "classifier.pth")
    torch.save(tables(), folder / "LUTs.pth")
    return folder


def test_a_colour_is_looked_up_in_the_sum_of_the_tables_by_their_shares() -> None:
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AdaptiveLut(network((1.0, 0.0, 0.0)), tables())(image), image)
    torch.testing.assert_close(AdaptiveLut(network((0.0, 1.0, 0.0)), tables())(image), image.flip(0))
    torch.testing.assert_close(AdaptiveLut(network((0.5, 0.0, 1.0)), tables())(image), image / 2 + 0.1)
    assert AdaptiveLut(network((3.0, 0.0, 0.0)), tables())(image).max() == 1.0


def test_the_shares_depend_on_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(tensor.shape, generator=generator) * 0.05
        for name, tensor in network((1, 1, 1)).items()
    }
    enhance = AdaptiveLut(drawn, tables())
    dark, bright = torch.rand(2, 3, 64, 64, generator=generator).mul(
        torch.tensor([0.2, 1.0]).view(2, 1, 1, 1)
    )
    pixel = torch.full((3, 1, 1), 0.5)
    dark[:, :1, :1], bright[:, :1, :1] = pixel, pixel
    assert (enhance(dark)[:, 0, 0] - enhance(bright)[:, 0, 0]).abs().max() > 1e-3


def test_files_that_are_missing_or_hold_something_else_are_refused(weights: Path, tmp_path: Path) -> None:
    torch.save({"0": {"LUT": torch.zeros(3, 5, 5, 5)}}, weights / "LUTs.pth")
    with pytest.raises(InputError, match="not the weights of Image-Adaptive-3DLUT"):
        render(weights, {}, tmp_path)
    torch.save({name: {"LUT": torch.zeros(2, 5, 5, 5)} for name in "012"}, weights / "LUTs.pth")
    with pytest.raises(InputError, match=r"tables of the shape \(2, 5, 5, 5\)"):
        render(weights, {}, tmp_path)
    (weights / "LUTs.pth").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="not a file of tensors"):
        render(weights, {}, tmp_path)
    (weights / "LUTs.pth").unlink()
    with pytest.raises(InputError, match=r"lacks LUTs\.pth"):
        render(weights, {}, tmp_path)


def test_a_broken_picture_does_not_stop_the_others(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    Image.new("RGB", (40, 30), (200, 100, 0)).save(tmp_path / "input" / "whole.png")
    (tmp_path / "input" / "broken.png").write_bytes(b"no image")
    made = render(weights, list_scenes(tmp_path / "input"), tmp_path / "out")
    assert list(made) == ["whole"]
    # half of each level and .1, in levels
    assert Image.open(made["whole"]).getpixel((3, 3)) == pytest.approx((125, 75, 25), abs=1)


def test_the_command_compares_it_and_lets_no_peer_be_its_own_rival(weights: Path, tmp_path: Path) -> None:
    data = tmp_path / "fivek"
    for folder, level in (("input", 60), ("expertC", 110)):
        (data / folder).mkdir(parents=True)
        for scene in ("s1", "s2", "s3"):
            Image.new("RGB", (48, 32), (level, level, level)).save(data / folder / f"{scene}.png")
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--quick", "--out", str(out), "--adaptive-3dlut", str(weights)]
    assert main(arguments) == 0
    record = json.loads((out / "record.json").read_text())
    assert {row["method"] for row in record["rows"]} == {"input", "adaptive-3dlut"}
    rivals = {(row["method"], row["against"]) for row in record["win_rates"]}
    assert rivals == {("input", "expert C"), ("adaptive-3dlut", "expert C"), ("adaptive-3dlut", "input")}
