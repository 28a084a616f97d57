"""Generated images against ratings: SciPy as referee, groups, protocols, published columns, bad input."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau, pearsonr, spearmanr

from attiqa.errors import InputError
from attiqa.options import parse
from benchmarks import common, fits
from benchmarks.agiqa import AgiqaOptions, main
from benchmarks.agreement import (
    agreement,
    by_group,
    group_table,
    metric_cells,
    published_beside,
    published_scores,
)
from benchmarks.cards import cross_validated, protocol
from benchmarks.paper import GENERATED, TABLES, reported_rows
from benchmarks.scorers import ScoreColumn, Scorer

PROMPTS = 10
GENERATORS = ("sd1.5_normal", "DALLE2_normal", "glide_normal")


@pytest.fixture
def agiqa(tmp_path: Path) -> Path:
    """AGIQA-3k's own layout, small: brightness is the quality, up to noise; alignment is unrelated."""
    root = tmp_path / "agiqa"
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(3)
    rows = []
    for prompt in range(PROMPTS):
        for generator in GENERATORS:
            name = f"{generator}_{prompt:03d}.jpg"
            level = int(random.integers(20, 230))
            Image.new("RGB", (16, 12), (level,) * 3).save(root / "images" / name)
            quality = 5 * level / 255 + float(random.normal(0, 0.1))
            style = "anime style" if prompt % 2 else ""
            rows.append(
                [
                    name,
                    f"prompt {prompt}",
                    "",
                    "",
                    style,
                    np.clip(quality, 0, 5),
                    0.1,
                    random.uniform(0, 5),
                    0.1,
                ]
            )
    with open(root / "data.csv", "w", newline="") as file:
        writer = csv.writer(file)
        header = [
            "name",
            "prompt",
            "adj1",
            "adj2",
            "style",
            "mos_quality",
            "std_quality",
            "mos_align",
            "std_align",
        ]
        writer.writerows([header, *rows])
    return root


class Brightness:
    """Stands for a quality model: its score is brightness, its features are powers of it."""

    digest = "b" * 64

    def score(self, images: torch.Tensor, view: str) -> torch.Tensor:
        return images.mean((1, 2, 3))

    def features(self, images: torch.Tensor, view: str) -> torch.Tensor:
        level = images.mean((1, 2, 3))
        return torch.stack([level, level**2, level**3], dim=1)


def run(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, object]:
    scorer = Scorer("bright", "b" * 64, "a test", False, "", lambda images: images.mean((1, 2, 3)))
    constant = Scorer("constant", "c" * 64, "a test", False, "", lambda images: torch.ones(len(images)))
    monkeypatch.setattr(common, "model_scorer", lambda name, device, view: scorer)
    monkeypatch.setattr(common, "load_peer", lambda name, weights, device: constant)
    monkeypatch.setattr(fits.attiqa, "load", lambda name, device: Brightness())
    arguments = ["--data", str(root), "--repeats", "40", "--cache", str(out / "cache"), "--out", str(out)]
    assert main([*arguments, "--peers", "constant", *more]) == 0
    return json.loads((out / "record.json").read_text())


def test_every_statistic_is_scipys(agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    record = run(agiqa, out, monkeypatch)
    items = list(csv.DictReader((out / "items.csv").open()))
    scores, quality = (np.array([float(row[key]) for row in items]) for key in ("bright", "quality"))
    metrics = record["zero_shot"]["quality"]["all"]["bright"]["metrics"]  # type: ignore[index]
    assert metrics["srocc"]["value"] == pytest.approx(spearmanr(scores, quality)[0])
    assert metrics["plcc"]["value"] == pytest.approx(pearsonr(scores, quality)[0])
    assert metrics["krcc"]["value"] == pytest.approx(kendalltau(scores, quality)[0])
    assert metrics["plcc_logistic"]["value"] >= metrics["plcc"]["value"] - 1e-3
    low, high = metrics["srocc"]["interval"]
    assert low <= metrics["srocc"]["value"] <= high
    glide = [index for index, row in enumerate(items) if row["generator"].startswith("glide")]
    group = record["zero_shot"]["quality"]["generator"]["bright"]["glide_normal"]  # type: ignore[index]
    assert group["metrics"]["srocc"]["value"] == pytest.approx(spearmanr(scores[glide], quality[glide])[0])


def test_the_report_marks_alignment_constant_scores_and_reported_rows(
    agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(agiqa, tmp_path / "out", monkeypatch)
    text = capsys.readouterr().out
    assert "### Against alignment (a quality model is not made for it)" in text
    assert "constant: SROCC is undefined" in text
    assert any("reported" in line and "0.854" in line and "0.911" in line for line in text.splitlines())
    assert (tmp_path / "out" / "scatter.png").stat().st_size > 1000


def test_in_domain_fits_on_other_prompts_than_it_tests(
    agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    record = run(agiqa, out, monkeypatch, "--in-domain", "linear-probe", "--splits", "4")
    (row,) = record["in_domain"]  # type: ignore[misc]
    assert row["protocol"] == "in-domain, linear probe, 4 splits"  # type: ignore[index]
    values = [split["metrics"]["srocc"]["value"] for split in row["splits"]]  # type: ignore[index]
    assert row["metrics"]["srocc"]["value"] == pytest.approx(np.median(values))  # type: ignore[index]
    assert min(values) > 0.7
    splits = json.loads((out / "splits.json").read_text())
    assert splits["sha256"] == row["splits_sha256"]  # type: ignore[index]
    prompt_of = {row["name"]: row["prompt"] for row in csv.DictReader((agiqa / "data.csv").open())}
    for split in splits["splits"]:
        sides = [{prompt_of[name] for name in split[side]} for side in ("train", "test")]
        assert sides[0].isdisjoint(sides[1])


def test_in_domain_on_one_prompt_is_left_out_with_a_sentence(
    agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (agiqa / "data.csv").read_text().splitlines()
    one = [lines[0], *(re.sub(r",prompt \d+,", ",prompt 0,", line) for line in lines[1:])]
    (agiqa / "data.csv").write_text("\n".join(one) + "\n")
    record = run(agiqa, tmp_path / "out", monkeypatch, "--in-domain", "linear-probe")
    assert record["in_domain"] == []
    assert "bright: one prompt only: intervals are over images" in capsys.readouterr().out
    (left,) = record["left_out"]  # type: ignore[misc]
    assert "too few for these splits" in left["reason"]  # type: ignore[index]


def test_an_image_that_is_listed_but_absent_is_counted(
    agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (agiqa / "images" / "glide_normal_004.jpg").unlink()
    (agiqa / "images" / "glide_normal_005.jpg").write_bytes(b"\xff\xd8 torn")
    record = run(agiqa, tmp_path / "out", monkeypatch)
    assert record["not_on_disk"] == ["glide_normal_004.jpg"]
    result = record["zero_shot"]["quality"]["all"]["bright"]  # type: ignore[index]
    assert (result["items"], result["dropped"]) == (28, 1)
    text = capsys.readouterr().out
    assert "1 listed images are not on disk" in text
    assert "glide_normal_005.jpg" in text


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda lines: [line.replace("mos_quality", "mos") for line in lines],
            "lacks the column mos_quality",
        ),
        (lambda lines: [*lines, lines[-1]], "more than once"),
        (
            lambda lines: [*lines[:-1], ",".join([*lines[-1].split(",")[:5], "nan", "0", "1", "0"])],
            "no finite number",
        ),
    ],
)
def test_a_bad_table_is_one_sentence_and_exit_code_2(
    change: object, message: str, agiqa: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (agiqa / "data.csv").read_text().splitlines()
    (agiqa / "data.csv").write_text("\n".join(change(lines)) + "\n")  # type: ignore[operator]
    assert main(["--data", str(agiqa), "--model", "none", "--peers", "niqe"]) == 2
    assert message in capsys.readouterr().err


def test_without_data_five_lines_say_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 5
    assert "github.com/lcysyzxdxc/AGIQA-3k-Database" in error[1]


def test_one_prompt_only_is_said_and_intervals_are_over_images() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=30)
    result = agreement(x, x + 0.1 * random.normal(size=30), ["p"] * 30, repeats=50)
    assert result["note"] == "one prompt only: intervals are over images"
    assert result["metrics"]["srocc"]["interval"] is not None


def test_nan_scores_and_ratings_are_counted_not_dropped() -> None:
    x = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    result = agreement(x, np.array([1.0, 2.0, 3.0, np.nan, 5.0, 6.0]), list("abcdef"), repeats=20)
    assert (result["items"], result["dropped"]) == (4, 2)
    assert metric_cells(result)[:2] == ["4", "2"]


def test_a_group_with_fewer_scores_than_images_says_so_in_its_cell() -> None:
    column = ScoreColumn("x", "", "", False, np.array([1.0, 2.0, 3.0, np.nan, 1.0, 2.0, 3.0, 4.0]))
    ratings, groups = np.arange(8.0), np.array(["a"] * 4 + ["b"] * 4)
    results = {"x": by_group(column, ratings, np.arange(8).astype(str), groups, repeats=20, seed=0)}
    header, _, row = group_table(results).splitlines()
    assert "a (4)" in header
    assert "b (4)" in header
    assert "of 3" in row.split("|")[2]
    assert "of" not in row.split("|")[3]


def test_every_metric_of_every_group_stands_in_the_csv(
    agiqa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run(agiqa, tmp_path / "out", monkeypatch)
    rows = list(csv.DictReader((tmp_path / "out" / "groups.csv").open()))
    # two targets, two scorers, three generators and two styles
    assert len(rows) == 2 * 2 * (len(GENERATORS) + 2)
    row = next(r for r in rows if r["group"] == "glide_normal" and r["scorer"] == "bright")
    found = record["zero_shot"]["quality"]["generator"]["bright"]["glide_normal"]["metrics"]  # type: ignore[index]
    assert float(row["krcc"]) == pytest.approx(found["krcc"]["value"])
    assert float(row["rmse_low"]) <= float(row["rmse"]) <= float(row["rmse_high"])
    assert rows[-1]["scorer"] == "constant"
    assert rows[-1]["srocc"] == ""


def test_reported_rows_stand_beside_measured_ones_with_their_source() -> None:
    rows, remark = reported_rows("main", {"koniq10k", "avt-ai"})
    assert {row.test for row in rows} == {"koniq10k"}
    assert "DR.Experts, AAAI 2026, Table 1" in remark
    assert "own rows of this table could not be read" in remark
    nothing, remark = reported_rows("ablation", {"koniq10k"})
    assert nothing == []
    assert "no peers' figures" in remark
    every = [*GENERATED, *(row for table in TABLES.values() for row in table)]
    assert all(row.source and 0 < row.srocc < 1 for row in every)


def test_a_group_of_two_images_does_not_stop_the_others() -> None:
    column = ScoreColumn("x", "", "", True, np.array([1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    ratings = np.array([1.0, 2.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    groups = np.array(["flat"] * 2 + ["good"] * 6)
    results = by_group(column, ratings, np.arange(8).astype(str), groups, repeats=20, seed=0)
    assert results["good"]["metrics"]["srocc"]["value"] == pytest.approx(1.0)  # lower is better: turned round
    assert results["flat"]["metrics"]["srocc"]["value"] is None
    assert "undefined" in results["flat"]["note"]


@pytest.mark.parametrize("flags", [["--model", "a", "b"], ["--model", "a", "--model", "b"]])
def test_models_are_named_in_one_flag_or_in_several(flags: list[str]) -> None:
    assert parse(AgiqaOptions, flags, prog="", description="").model == ["a", "b"]
    assert parse(AgiqaOptions, [], prog="", description="").model == ["attiqa-mini"]


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--splits", "0"], "--splits and --epochs are 1 or more"),
        (["--device", "quantum"], "the device 'quantum' cannot be used"),
        (["--peer-weights", "/nowhere"], "is not a folder"),
    ],
)
def test_flags_out_of_range_are_refused(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    assert sentence in capsys.readouterr().err


def test_published_scores_are_joined_by_name_with_their_direction(tmp_path: Path) -> None:
    path = tmp_path / "published_peer_scores.csv"
    path.write_text("image_key,NIQE,MUSIQ\na/p1,3.5,60\na/p2,4.5,\n")
    niqe, musiq = published_beside(tmp_path, ["a/p2.webp", "a/p1.webp", "a/p3.webp"])
    assert niqe.lower_is_better
    assert not musiq.lower_is_better
    assert niqe.kind == "published"
    np.testing.assert_array_equal(niqe.values, [4.5, 3.5, np.nan])
    assert [item for item, _ in musiq.failures] == ["a/p2.webp", "a/p3.webp"]


def test_a_published_table_that_lists_an_image_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("image_key,NIQE\na,1\na,2\n")
    with pytest.raises(InputError, match="lists 1 images more than once"):
        published_scores(path, ["a"])


def test_a_published_table_without_its_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("file,NIQE\na,1\n")
    with pytest.raises(InputError, match="lacks the column image_key"):
        published_scores(path, ["a"])


CARD = {
    "training_data": [{"what": "human/avt_ai: mean quality of 69 generated images"}],
    "cross_validation": {
        "avt-ai": {"rows": {"attiqa (whole view, out of fold)": {"srocc": 0.3, "srocc_ci95": [0.1, 0.5]}}}
    },
}


def test_a_model_that_learnt_from_a_set_is_in_sample_there_and_nowhere_else() -> None:
    assert protocol(CARD, "avt-ai") == "in-sample"
    assert protocol(CARD, "avt-quality") == protocol(CARD, "ava") == protocol({}, "avt-ai") == "zero-shot"
    assert protocol({"training_data": [{"what": "KonIQ-10k, 80 %"}]}, "koniq10k") == "in-sample"


def test_the_cards_own_cross_validation_is_found_by_view() -> None:
    found = cross_validated(CARD, "avt-ai", "whole")
    assert found is not None
    assert found["srocc"] == 0.3
    assert cross_validated(CARD, "avt-ai", "five") is None
    assert cross_validated({}, "avt-ai", "whole") is None


@pytest.mark.data
def test_published_columns_of_avt_ai_give_the_known_correlations(data_root: Path) -> None:
    folder = data_root / "human" / "avt_ai"
    rows = list(csv.DictReader((folder / "ratings.csv").open()))
    quality = np.array([float(row["quality"]) for row in rows])
    prompts = [row["prompt"] for row in rows]
    found = {
        column.name.split()[0]: agreement(column.oriented, quality, prompts, repeats=0)
        for column in published_beside(folder, [f"{row['image_key']}.webp" for row in rows])
    }
    # computed with SciPy on the same files when they were collected
    expected = {"BRISQUE": 0.56, "MANIQA": 0.47, "NIQE": 0.45, "ILNIQE": 0.33, "DBCNN": 0.31, "MUSIQ": 0.29}
    assert {k: round(v["metrics"]["srocc"]["value"], 2) for k, v in found.items()} == expected
