"""benchmarks/gallery.py: every operator and every tool has its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.gallery import SHEETS, main, parameter_row
from isp_env.frame import RawFrame
from isp_env.parameters import PARAMETERS
from isp_env.toolset import TOOLS

ROWS_ACROSS = 2


def test_every_operator_of_the_table_is_on_one_sheet() -> None:
    shown = [operator for operators in SHEETS.values() for operator in operators]
    assert sorted(shown) == sorted({row.operator for row in PARAMETERS})


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda row: row.name)
def test_both_ends_of_a_parameter_differ_from_neutral(parameter) -> None:
    coarse = torch.rand(1, 3, 9, 12) * 0.8
    image = torch.nn.functional.interpolate(coarse, (216, 288), mode="bilinear")[0]
    image = (image + 0.05 * torch.randn_like(image)).clamp(0.0, 1.0)
    low, neutral, high = parameter_row(
        RawFrame(image, torch.ones(3), torch.eye(3), "scene", "0" * 64), parameter
    ).pictures
    assert (high - neutral).abs().max() > 0.01
    if parameter.low < parameter.neutral:
        assert (low - neutral).abs().max() > 0.01


def test_the_command_writes_a_sheet_a_group_and_one_of_the_tools(tmp_path: Path) -> None:
    Image.effect_noise((120, 90), 40).convert("RGB").save(tmp_path / "photo.png")
    arguments = ["--photo", str(tmp_path / "photo.png"), "--short-side", "64", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {*SHEETS, "tools"}
    with Image.open(tmp_path / "out" / "tools.png") as tools:
        width, height = tools.size
    lines = -(-len(TOOLS) // ROWS_ACROSS)
    assert width > 6 * 85
    assert height > lines * 64


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--scene", "moon"], "--scene is one of"),
        (["--short-side", "9"], "--short-side is 64 or more"),
        (["--photo", "/nowhere.png"], "nowhere"),
    ],
)
def test_bad_input_ends_in_a_sentence(arguments: list[str], sentence: str, capsys) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
