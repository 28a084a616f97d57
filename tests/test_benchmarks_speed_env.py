"""``benchmarks/speed.py env``: what is measured, the record, the door's sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.speed import main
from benchmarks.speed_env import operator_timings
from benchmarks.speed_renders import (
    ALL_ON_ALL,
    GROUPED,
    compiled_table,
    compiled_timings,
    mixed_tools_table,
    mixed_tools_timings,
)
from isp_env.frame import RawBatch
from isp_env.parameters import PARAMETERS


def test_every_operator_of_the_table_is_timed_beside_the_yardstick() -> None:
    batch = RawBatch(torch.rand(2, 3, 64, 64), torch.ones(2, 3), torch.eye(3).expand(2, 3, 3))
    operators = operator_timings(batch, repeats=1, device="cpu")
    assert {row.operator for row in PARAMETERS} < operators.keys()
    together = {"neutral render", "pointwise together", "default parameters", "all together"}
    assert together | {"kornia's three"} < operators.keys()


def test_the_command_writes_a_record_and_prints_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed_env._COPIED_VALUES", 2**16)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    for name in ("one", "two"):
        Image.new("RGB", (80, 64), "olive").save(tmp_path / f"{name}.png")
    size = ["--num-envs", "2", "--short-side", "64", "--repeats", "1", "--device", "cpu"]
    source = ["--raws", str(tmp_path), "--reward", "none"]
    assert main(["env", *source, *size, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    figures = {entry["name"]: entry for entry in record["devices"]["cpu"]["figures"]}
    assert figures["a step without reward, 2 at once"]["rate"] > 0
    assert {"decode raws", "previews from the cache"} < figures.keys()
    assert {"compiled", "mixed_tools", "beside_kornia"} < record["devices"]["cpu"].keys()
    assert {"date", "hardware", "versions", "commit"} < record.keys()
    assert "the render alone" in record["report"]
    assert "of kornia's three" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["warp"], "expected all or one of env"),
        (["env", "--num-envs", "0"], "--num-envs is 1 or more"),
        (["env", "--repeats", "0"], "--repeats is 1 or more"),
        (["env", "--device", "quantum"], "the device 'quantum' cannot be used"),
        (["env", "--reward", "none", "--raws", "/nowhere"], "does not exist"),
        (["env", "--reward", "beauty"], "no reward named"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["env", "--short-side", "64", *arguments[1:]] if arguments[0] == "env" else arguments) == 2
    assert sentence in capsys.readouterr().err


def test_tools_mixed_in_a_batch_are_timed_in_three_ways_that_give_the_same() -> None:
    images = torch.rand(3, 3, 32, 40)
    mixed = mixed_tools_timings(images, repeats=1)
    assert mixed["times_grouped"][GROUPED] == 1.0
    assert mixed["times_grouped"].keys() == mixed["timings"].keys()
    assert ALL_ON_ALL in mixed_tools_table(mixed)


def test_compiling_is_timed_beside_the_code_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)  # what it gives is tested elsewhere
    batch = RawBatch(torch.rand(2, 3, 64, 64), torch.ones(2, 3), torch.eye(3).expand(2, 3, 3))
    found = compiled_timings(batch, repeats=1)
    assert found.keys() == {"neutral", "default parameters", "all together"}
    assert "all together" in compiled_table(found, 2)
    assert "Nothing could be compiled" in compiled_table({}, 2)
