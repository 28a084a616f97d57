"""``benchmarks/speed.py``: timings in turns, shares of a limit, and what each subject measures."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import speed, speed_label
from benchmarks.speed import SUBJECTS, main
from benchmarks.speed_options import SpeedOptions
from benchmarks.timing import Figure, Timing, figures_beside, figures_table, in_turns, measure
from isp_env.embedded import embedded_photographs
from isp_env.photographs import write_scene
from tests.tiny import tiny_checkpoint
from tests.tiny_clip import write_tiny_clip


def test_a_timing_leaves_the_warm_up_out_and_divides_by_items() -> None:
    pauses = iter([0.3, 0.02, 0.03, 0.04])
    timing = measure(lambda: time.sleep(next(pauses)), repeats=3)
    assert 0.02 <= timing.best < 0.03 <= timing.median < 0.06
    assert timing.record(items=4)["milliseconds_an_item"] == pytest.approx(timing.best * 250)


def test_things_that_are_compared_take_turns() -> None:
    order: list[str] = []
    in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3  # the first turn warms up


def test_a_share_is_of_the_limits_rate_turn_by_turn() -> None:
    # the machine is three times slower in the second turn, for both
    figure = Figure("it", "images", 10, Timing.of([2.0, 6.0]), "bound", Timing.of([1.0, 3.0]), 10)
    np.testing.assert_allclose(figure.shares, [0.5, 0.5])
    record = figure.record()
    assert (record["rate"], record["limit_rate"], record["share"]) == (5.0, 10.0, 0.5)
    assert "50 % [50, 50]" in figures_table("title", [figure])


def test_figures_beside_one_limit_share_its_turns() -> None:
    runs = {"one": lambda: None, "two": lambda: None}
    one, two = figures_beside(runs, "bound", lambda: None, unit="images", items=3, repeats=2)
    assert one.limit is two.limit
    assert (one.name, two.name, one.limit_name) == ("one", "two", "bound")


def run(subject: str, out: Path, *flags: str) -> dict[str, Any]:
    assert main([subject, "--repeats", "1", "--device", "cpu", "--out", str(out), *flags]) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["benchmark"] == f"speed-{subject}"
    return {figure["name"]: figure for figure in record["devices"]["cpu"]["figures"]}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three small photographs."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return folder


def test_scoring_stands_beside_the_bare_forward(tmp_path: Path, images: Path) -> None:
    model = str(tiny_checkpoint(tmp_path))
    figures = run("score", tmp_path / "out", "--images", str(images), "--model", model)
    assert figures["score files, view whole"]["limit"] == "bare forward"
    assert figures["score files, view whole"]["share"] > 0
    assert figures["decode and cut, one thread"]["limit"] == "Pillow's decoding"


def test_labelling_stands_beside_forward_bandwidth_and_sort(tmp_path: Path, images: Path) -> None:
    model = f"local-dir:{write_tiny_clip(tmp_path / 'clip')}"
    size = ["--cached", "1000", "--pairs", "20", "--ranked", "50"]
    figures = run("label", tmp_path / "out", "--images", str(images), "--model", model, *size)
    limits = [figure["limit"] for figure in figures.values()]
    assert limits == ["bare forward", "bandwidth: a copy of them", "NumPy's sort of the scores"]


def test_a_random_encoder_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    model = f"local-dir:{write_tiny_clip(tmp_path / 'clip')}"
    one, other = (speed_label.random_encoder(model, "cpu", seed=3) for _ in range(2))
    image = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(one.embed_images(image), other.embed_images(image))


def test_training_stands_beside_bare_steps(tmp_path: Path) -> None:
    model = str(tiny_checkpoint(tmp_path))
    size = ["--steps", "1", "--batch", "6", "--side", "64", "--tuned", "8", "--crop", "64"]
    figures = run("train", tmp_path / "out", "--model", model, *size)
    assert set(figures) == {"pretrain", "make its batches, on the CPU", "fine-tune, 64 crops"}
    assert {figure["limit"] for figure in figures.values()} == {"bare forward, backward, update"}


def test_export_stands_beside_libraw(tmp_path: Path) -> None:
    photograph = next(iter(embedded_photographs().values()))
    write_scene(tmp_path / "raws", "scene", photograph, 1, (64, 86), generator=torch.Generator())
    figures = run("export", tmp_path / "out", "--raws", str(tmp_path / "raws"))
    assert len(figures) == 5
    whole = [
        figures.pop(name) for name in ("decode, render at half, write a JPEG", "the same, scene-00.dng alone")
    ]
    assert {figure["limit"] for figure in whole} == {"LibRaw's default postprocess and a JPEG"}
    report = json.loads((tmp_path / "out" / "record.json").read_text())["report"]
    gibibytes = re.search(r"takes (\d\.\d\d) GiB", report)
    assert gibibytes is not None
    assert 0.2 < float(gibibytes[1]) < 4.0  # torch alone is more than the first
    assert {figure["limit"] for figure in figures.values()} == {"LibRaw's postprocess"}
    assert figures["decode"]["unit"] == "Mpixel"


def test_the_command_of_a_policy_stands_beside_libraw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph = next(iter(embedded_photographs().values()))
    write_scene(tmp_path / "raws", "scene", photograph, 1, (64, 86), generator=torch.Generator())
    seen = []

    def export(policy: Path, source: Path, out: Path, *more: str) -> None:
        seen.append((policy.name, sorted(path.name for path in source.iterdir()), more))
        time.sleep(0.2)

    monkeypatch.setattr("benchmarks.speed_export.export", export)
    given = ["--raws", str(tmp_path / "raws"), "--run", "agents/policies/photographs", "--threads", "1"]
    figure = run("export", tmp_path / "out", *given)["agents/export.py, photographs"]
    assert (figure["unit"], figure["limit"]) == ("file", "LibRaw's default postprocess and a JPEG")
    assert 0.0 < figure["share"] < 1.0
    assert figure["rate"] < 20.0  # four files in a fifth of a second
    files = [f"scene-00-{number}.dng" for number in range(4)]
    assert seen[0] == ("photographs", files, ("--overwrite", "--device", "cpu", "--threads", "1"))


def test_export_refuses_a_folder_without_raws(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--raws", str(images), "--out", str(tmp_path / "out")]) == 2
    assert "holds no camera raw" in capsys.readouterr().err


def test_help_names_every_subject(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed for name in ("env", "score", "label", "train", "export"))
    assert set(SUBJECTS) == {"env", "score", "label", "train", "export"}


def test_all_runs_every_subject_with_the_shared_flags_into_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: dict[str, SpeedOptions] = {}
    monkeypatch.setattr(speed, "run_subject", lambda subject, own, argv: ran.update({subject.name: own}))
    assert main(["all", "--quick", "--seed", "5", "--out", str(tmp_path)]) == 0
    assert set(ran) == set(SUBJECTS)
    for name, options in ran.items():
        assert isinstance(options, SUBJECTS[name].options)
        assert options.out == tmp_path / f"speed-{name}"
        assert (options.quick, options.repeats, options.seed) == (True, 2, 5)
