"""``attiqa score``: streams, resumes, survives broken files, and says the same whatever shares the batch."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa import scoring
from attiqa.cli.main import main
from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.model import QualityModel
from attiqa.scoring import expand_inputs, score_files
from attiqa.views import VIEWS
from tests.tiny import tiny_checkpoint, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight photographs of three shapes, the fourth broken, the sixth empty."""
    root = tmp_path / "photos"
    random = np.random.default_rng(1)
    for number in range(8):
        shape = [(40, 60), (60, 40), (50, 50)][number % 3]
        pixels = random.integers(0, 256, (shape[0] // 10, shape[1] // 10, 3), dtype=np.uint8)
        path = root / ("deep" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC).save(path)
    truncated = (root / "deep" / "3.png").read_bytes()[:200]
    (root / "deep" / "3.png").write_bytes(truncated)
    (root / "deep" / "5.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("crops", VIEWS)
def test_scores_are_the_models_own_in_the_order_of_the_paths(
    model: QualityModel, folder: Path, crops: str
) -> None:
    paths = expand_inputs([folder]) if crops == "whole" else sorted(folder.glob("*.png"))
    results = list(score_files(model, paths, crops=crops, batch=2, workers=2))
    assert [result.path for result in results] == paths
    for result in results:
        if result.error:
            assert result.path.name in ("3.png", "5.png")
            continue
        quality, attributes = model.assess(to_float(read_image(result.path))[None], crops)
        assert result.score == pytest.approx(quality.item(), abs=1e-5)
        assert result.attributes == pytest.approx(attributes[0].tolist(), abs=1e-5)


def test_a_photograph_of_floats_with_nan_is_refused_in_one_sentence(tmp_path: Path) -> None:
    pixels = np.full((40, 50), 0.5, np.float32)
    pixels[3, 3] = np.nan
    Image.fromarray(pixels).save(tmp_path / "nan.tif")
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "nan.tif")
    assert str(caught.value).count("nan.tif") == 1
    assert "save it as 8- or 16-bit sRGB" in str(caught.value)


def test_scores_do_not_depend_on_batch_nor_on_how_much_memory_is_used(
    model: QualityModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [path for path in expand_inputs([folder]) if path.name not in ("3.png", "5.png")]
    together = [result.score for result in score_files(model, paths, batch=32)]
    alone = [result.score for result in score_files(model, paths, batch=1, workers=1)]
    monkeypatch.setattr(scoring, "_WAITING_PIXELS", 1)
    flushed = [result.score for result in score_files(model, paths, batch=32)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together == pytest.approx(flushed, abs=1e-5)


def test_csv_has_a_row_for_every_file_and_says_what_made_it(folder: Path, checkpoint: Path) -> None:
    out = folder.parent / "scores.csv"
    assert main(["score", str(folder), "--csv", str(out), "--model", str(checkpoint)]) == 0
    head, *lines = out.read_text().splitlines()
    model = tiny_model(checkpoint.parent)
    assert head == f"# attiqa score: model tiny, digest {model.digest}, crops whole"
    rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["path", "score", *model.attribute_names, "error"]
    assert {Path(row["path"]).name for row in rows if row["error"]} == {"3.png", "5.png"}
    assert len(rows) == 8
    for row in rows:
        if not row["error"]:
            expected = model.score(to_float(read_image(row["path"]))[None]).item()
            assert float(row["score"]) == pytest.approx(expected, abs=1e-5)


def test_a_killed_run_resumes_and_ends_as_an_unbroken_one(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = folder.parent / "whole.csv", folder.parent / "cut.csv"
    arguments = ["score", str(folder), "--model", str(checkpoint), "--csv"]
    assert main([*arguments, str(whole)]) == 0
    lines = whole.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[:5]) + lines[5][:20])  # two head lines, three rows, a torn one
    seen: list[Path] = []

    def counting(path: Path) -> torch.Tensor:
        seen.append(path)
        return read_image(path)

    monkeypatch.setattr(scoring, "read_image", counting)
    capsys.readouterr()
    assert main([*arguments, str(cut)]) == 0
    assert "3 images are scored already" in capsys.readouterr().err
    assert len(seen) == 5
    assert sorted(cut.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def test_any_name_of_a_file_is_written_printed_and_found_again(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"latin-1 \xfc.png", b"two\nlines.png", b"return\r.png", b'comma, "quoted".png'):
        (folder / os.fsdecode(name)).write_bytes((folder / "0.png").read_bytes())
    out = folder.parent / "scores.csv"
    arguments = ["score", str(folder), "--model", str(checkpoint)]
    assert main([*arguments, "--csv", str(out)]) == 0
    assert main([*arguments, "--csv", str(out)]) == 0
    assert "10 images are scored already" in capsys.readouterr().err
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 10
    assert any("two\\nlines.png" in line for line in lines)


def test_a_file_that_was_mended_is_scored_on_the_next_run(folder: Path, checkpoint: Path) -> None:
    out = folder.parent / "scores.csv"
    arguments = ["score", str(folder), "--csv", str(out), "--model", str(checkpoint)]
    main(arguments)
    Image.new("RGB", (40, 40), (90, 120, 30)).save(folder / "deep" / "5.png")
    main(arguments)
    rows = list(csv.DictReader(out.read_text().splitlines()[1:]))
    assert len(rows) == 8
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["3.png"]


def test_a_table_of_another_protocol_or_another_kind_is_left_alone(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "scores.csv"
    arguments = ["score", str(folder), "--csv", str(out), "--model", str(checkpoint)]
    main(arguments)
    before = out.read_text()
    assert main([*arguments, "--crops", "centre"]) == 2
    assert "was not written by this model and protocol" in capsys.readouterr().err
    assert out.read_text() == before
    out.write_text("name,grade\na,1\n")
    assert main(arguments) == 2
    assert out.read_text() == "name,grade\na,1\n"


def test_table_on_screen_names_failures_and_exit_code_is_2_only_if_nothing_was_scored(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "--model", str(checkpoint)]
    assert (
        main([*arguments, str(folder / "0.png"), str(folder / "deep" / "3.png"), str(folder / "gone.png")])
        == 0
    )
    output = capsys.readouterr()
    header, row = output.out.splitlines()
    assert header.split() == ["path", "score", *tiny_model(checkpoint.parent).attribute_names]
    assert row.split()[0].endswith("0.png")
    assert len(row.split()) == 7
    assert "2 of 3 images could not be scored" in output.err
    assert main([*arguments, str(folder / "deep" / "5.png")]) == 2
    assert "is empty (0 bytes)" in capsys.readouterr().err
    assert main([*arguments, str(folder / "deep" / ".."), "--batch", "0"]) == 2
    (folder.parent / "none").mkdir()
    assert main([*arguments, str(folder.parent / "none")]) == 2
    assert "no image was found" in capsys.readouterr().err


@pytest.mark.parametrize("overlap", [True, False])
def test_files_are_prepared_in_order_and_beside_the_caller_only_if_it_says_so(overlap: bool) -> None:
    started: list[int] = []

    def prepare(path: Path) -> int:
        started.append(int(path.name))
        if path.name == "2":
            raise RuntimeError("broken")
        return int(path.name)

    paths = [Path(str(number)) for number in range(7)]
    seen = []
    for path, result in scoring.read_ahead(paths, prepare, workers=2, ahead=3, overlap=overlap):
        seen.append(str(path))
        assert isinstance(result, InputError) if path.name == "2" else result == int(path.name)
        if not overlap:  # whole blocks of three, and nothing of the next one
            assert len(started) == min(7, 3 * (int(path.name) // 3 + 1))
    assert seen == [str(path) for path in paths]
