"""``benchmarks/speed.py env``: what is measured, the record, the door's sentences."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.speed import main
from benchmarks.speed_env import operator_timings
from benchmarks.timing import measure
from isp_env.frame import RawBatch
from isp_env.parameters import PARAMETERS


def test_a_timing_leaves_the_warm_up_out_and_divides_by_items() -> None:
    pauses = iter([0.3, 0.02, 0.03, 0.04])
    timing = measure(lambda: time.sleep(next(pauses)), repeats=3)
    assert 0.02 <= timing.best < 0.03 <= timing.median < 0.06
    assert timing.record(items=4)["milliseconds_an_item"] == pytest.approx(timing.best * 250)


def test_every_operator_of_the_table_is_timed_beside_the_yardstick() -> None:
    batch = RawBatch(torch.rand(2, 3, 64, 64), torch.ones(2, 3), torch.eye(3).expand(2, 3, 3))
    operators = operator_timings(batch, repeats=1, device="cpu")
    assert {row.operator for row in PARAMETERS} < operators.keys()
    assert {"neutral render", "default parameters", "all together", "kornia's three"} < operators.keys()


def test_the_command_writes_a_record_and_prints_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (80, 64), "olive").save(tmp_path / f"{name}.png")
    size = ["--num-envs", "2", "--short-side", "64", "--repeats", "1"]
    source = ["--raws", str(tmp_path), "--reward", "none"]
    assert main(["env", *source, *size, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["steps"]["without_reward"]["steps_a_second"] > 0
    assert record["decoding"]["files"] == 2
    assert {"cold", "cached"} < record["decoding"].keys()
    assert {"date", "hardware", "versions", "commit"} < record.keys()
    assert "without reward" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["warp"], "expected all or one of env"),
        (["env", "--num-envs", "0"], "--num-envs is 1 or more"),
        (["env", "--reward", "none", "--raws", "/nowhere"], "does not exist"),
        (["env", "--reward", "beauty"], "no reward named"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *(["--short-side", "64", "--repeats", "1"] if "env" in arguments else [])]) == 2
    assert sentence in capsys.readouterr().err
