"""The paper's tables as a grid: planned, resumed, cut, and shared by processes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import attiqa
from attiqa.errors import InputError
from benchmarks.grid import Cell, plan_grid, run_grid, take_share
from benchmarks.iqa import main
from tests.tiny import tiny_checkpoint

PROBE = ["--in-domain", "linear-probe", "--view", "centre"]


class Brightness:
    """Stands for a quality model whose features are powers of brightness."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.calls = 0

    def features(self, images: torch.Tensor, view: str) -> torch.Tensor:
        self.calls += 1
        level = images.mean((1, 2, 3))
        return torch.stack([level, level**2, torch.ones_like(level)], dim=1)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Brightness]:
    known = {name: Brightness(name * 8) for name in ("first", "second")}
    monkeypatch.setattr(attiqa, "load", lambda name, device="cpu": known[name])
    return known


def make_set(root: Path, seed: int, count: int = 48) -> Path:
    """A table of one's own: brightness is the rating, two images a group."""
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(seed)
    lines = ["name,mos,group"]
    for index in range(count):
        level = int(random.integers(10, 240))
        Image.new("RGB", (360, 340), (level,) * 3).save(root / "images" / f"{index}.png")
        lines.append(f"{index}.png,{level + random.normal():.4f},g{index // 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_the_main_table_runs_and_a_second_run_finds_every_cell_done(
    tmp_path: Path, models: dict[str, Brightness], capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_set(tmp_path / "set", 0), tmp_path / "out"
    arguments = [
        "--table",
        "main",
        "--data",
        f"csv={root}",
        "--model",
        "first",
        "--splits",
        "3",
        *PROBE,
    ]
    assert main([*arguments, "--cache", str(out), "--out", str(out)]) == 0
    record = json.loads((out / "record.json").read_text())
    (row,) = record["rows"]
    assert len(row["splits"]) == 3
    assert row["metrics"]["srocc"]["value"] > 0.9
    calls = models["first"].calls
    assert main([*arguments, "--cache", str(out), "--out", str(out), "--plan"]) == 0
    assert "3 cells in share 1/1, 3 of them finished" in capsys.readouterr().out
    assert main([*arguments, "--cache", str(out), "--out", str(out)]) == 0
    assert models["first"].calls - calls <= 6  # the plan times three images; no cell ran again


def test_fine_tuning_fills_the_table_by_the_papers_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_set(tmp_path / "set", 0, count=12), tmp_path / "out"
    arguments = ["--table", "main", "--data", f"csv={root}", "--model", str(tiny_checkpoint(tmp_path))]
    arguments += ["--splits", "1", "--epochs", "1", "--cache", str(out), "--out", str(out)]
    assert main([*arguments, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "fine-tuned, 1 epoch: 1 cells" in printed
    assert "csv -> csv, split 0" in printed
    assert not (out / "record.json").exists()
    assert main(arguments) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["fit"]["epochs"] == 1
    assert record["rows"][0]["splits"][0]["train_images"] == 10
    assert len((out / "items.csv").read_text().splitlines()) == 3
    assert "could not be read here" in record["not_reported"]


def test_what_is_tested_once_has_a_bootstrap_interval(tmp_path: Path, models: dict[str, Brightness]) -> None:
    sets = [f"csv={make_set(tmp_path / 'one', 0)}", f"agiqa-1k={tmp_path / 'other'}"]
    other = make_set(tmp_path / "other", 1)
    rows = [line.split(",") for line in (other / "labels.csv").read_text().splitlines()[1:]]
    table = ["Image,Score", *(f"{name},{float(mos) / 60:.4f}" for name, mos, _ in rows)]
    (other / "AIGC_all.csv").write_text("\n".join(table) + "\n")
    arguments = ["--table", "cross", "--data", *sets, "--model", "first", *PROBE]
    assert main([*arguments, "--cache", str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 0
    for row in json.loads((tmp_path / "out" / "record.json").read_text())["rows"]:
        cell = row["metrics"]["srocc"]
        assert cell["interval"][0] < cell["value"] < cell["interval"][1]


def test_a_model_that_is_named_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "main", "--model", "a", "a"]) == 2
    assert "more than once" in capsys.readouterr().err


def test_two_shares_together_fill_one_table(tmp_path: Path, models: dict[str, Brightness]) -> None:
    root, out = make_set(tmp_path / "set", 0), tmp_path / "out"
    arguments = ["--table", "data-efficient", "--data", f"csv={root}", "--model", "first", "--splits", "2"]
    for shard in ("1/2", "2/2"):
        assert main([*arguments, *PROBE, "--cache", str(out), "--out", str(out), "--shard", shard]) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["cells"] == 4
    assert [len(row["splits"]) for row in record["rows"]] == [2, 2]
    few, more = (row["splits"][0]["train_images"] for row in record["rows"])
    assert few < more < 38


def test_the_features_table_of_one_checkpoint_with_itself_is_one(
    tmp_path: Path, models: dict[str, Brightness]
) -> None:
    root, out = make_set(tmp_path / "set", 0), tmp_path / "out"
    arguments = ["--table", "features", "--data", f"csv={root}", "--model", "first", "--after", "second"]
    assert main([*arguments, *PROBE, "--cache", str(out), "--out", str(out)]) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["rows"][0]["cosine"] == pytest.approx(1.0)
    assert record["rows"][0]["images"] == 48


def test_cross_tests_every_other_dataset_and_no_set_on_itself() -> None:
    sets = {name: SimpleNamespace(name=name, splits=None) for name in ("a", "b", "c")}
    cells = plan_grid("cross", ["m"], sets, 10, [])  # type: ignore[arg-type]
    assert {(cell.train, cell.test) for cell in cells} == {(a, b) for a in "abc" for b in "abc" if a != b}


def test_cross_with_one_dataset_is_refused() -> None:
    with pytest.raises(InputError, match="two datasets or more"):
        plan_grid("cross", ["m"], {"a": SimpleNamespace(name="a", splits=None)}, 10, [])  # type: ignore[dict-item]


def test_shares_are_disjoint_and_complete_and_can_be_cut() -> None:
    cells = [Cell("m", "a", "a", number) for number in range(7)]
    shares = [take_share(cells, "", f"{index}/3") for index in (1, 2, 3)]
    assert sorted((c for share in shares for c in share), key=lambda c: c.split) == cells
    assert [cell.split for cell in take_share(cells, "split 4", "1/1")] == [4]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_share_that_does_not_exist_is_refused(shard: str) -> None:
    with pytest.raises(InputError, match="--shard is I/N"):
        take_share([Cell("m", "a", "a")], "", shard)


def test_a_stopped_grid_keeps_its_finished_cells(tmp_path: Path) -> None:
    cells = [Cell("m", "a", "a", number) for number in range(3)]

    def stops(cell: Cell) -> dict[str, int]:
        if cell.split == 2:
            raise KeyboardInterrupt
        return {"value": cell.split}

    with pytest.raises(KeyboardInterrupt):
        run_grid(cells, stops, tmp_path, "setting")
    assert run_grid(cells, lambda cell: {"value": cell.split}, tmp_path, "setting") == (1, 2)
    assert run_grid(cells, lambda cell: {"value": cell.split}, tmp_path, "another") == (3, 0)


def test_without_data_the_command_explains_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "main"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 5
