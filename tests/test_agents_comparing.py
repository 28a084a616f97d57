"""The evaluation table says what its rows earn, and counts what it could not use."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.comparing import compare
from agents.curves import Point, draw_curve, write_curve
from agents.evaluation import Bench, cluster_interval, fallen_judges, share_interval, share_of, table
from agents.experiment import Experiment
from agents.judging import Judging
from agents.launch import make_core
from agents.playing import make_envs, play
from agents.policy_file import StoredPolicy, load_policy
from agents.scenes import (
    HELD_OUT_RAWS,
    MOST_RAWS,
    RAWS_A_PHOTOGRAPH,
    embedded_scenes,
    photograph_scenes,
    raw_scenes,
    split,
)
from attiqa.errors import InputError
from isp_env.embedded import STUDIES, write_embedded_scenes, write_scene
from isp_env.sources import RawFolder
from tests.fakes import MeanGrey, small_core


def grey(images: torch.Tensor) -> torch.Tensor:
    return -(images.mean(dim=(1, 2, 3)) - 0.5).abs()


def means(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(2, 3))


SCORES = Judging(grey, means, grey, {"darkness": lambda images: -means(images).mean(dim=1)}, {"eye": {}})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark photographs, and the same ones brightened as an expert would."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        coarse = np.random.default_rng(number).integers(20, 90, (4, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)
        for folder, gain in (("input", 1), ("expert", 2)):
            (root / folder).mkdir(exist_ok=True)
            picture.point(lambda value, gain=gain: value * gain).save(root / folder / f"scene{number}.png")
    return root


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> StoredPolicy:
    """An untrained policy: it renders neutral."""
    folder = tmp_path_factory.mktemp("run")
    core = make_core(RawFolder([photographs / "input"]), SCORES, 72, "cpu")
    built = Experiment(folder, core, Bench(core, grey), steps=16, num_envs=4, about={"short_side": 72})
    built.conclude({"policy": built.policy()}, 0.0)
    return load_policy(folder)


def test_the_table_compares_searches_policy_and_references(stored, photographs):
    record = compare(
        stored,
        SCORES,
        [photographs / "input"],
        references=photographs / "expert",
        random_renders=16,
        search_renders=60,
    )
    rows = record["held_out"]
    assert list(rows) == ["neutral", "libraw_auto", "random_search", "coordinate_search", "cma_es", "policy"]
    assert rows["policy"]["reward"] == pytest.approx(0.0, abs=1e-6)
    assert rows["cma_es"]["reward"] > rows["random_search"]["reward"] > 0.1
    assert rows["neutral"]["measures"]["color_distance"] == 0.0
    assert rows["cma_es"]["measures"]["psnr"] > rows["neutral"]["measures"]["psnr"]
    shares = record["shares_of"]["policy"]["cma_es"]
    assert shares["share"] == pytest.approx(0.0, abs=1e-5)
    assert shares["share_ci95"] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert set(record["files"]) == {"scene0", "scene1", "scene2"}
    assert "psnr" in table(rows)


def test_a_search_of_several_runs_stands_for_their_mean(stored, photographs):
    few = partial(compare, stored, SCORES, [photographs / "input"], random_renders=8, search_renders=20)
    alone = [few(seed=seed) for seed in (3, 4)]
    both = few(seed=3, search_runs=2)
    for search in ("random_search", "cma_es"):
        gains = [record["held_out"][search]["reward"] for record in alone]
        assert gains[0] != gains[1]
        assert both["search_runs"][search] == pytest.approx(gains)
        assert both["held_out"][search]["reward"] == pytest.approx(np.mean(gains))
        judged = [record["files"]["scene1"][search]["judges"]["darkness"] for record in alone]
        assert both["files"]["scene1"][search]["judges"]["darkness"] == pytest.approx(np.mean(judged))
        last = [point for point in both["curve"] if point["method"] == search][-1]
        assert last["gain"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert len(both["search_runs"]["coordinate_search"]) == 1  # there is no chance in it


def test_a_policy_of_several_looks_has_a_row_for_the_first(photographs, tmp_path):
    core = make_core(RawFolder([photographs / "input"]), SCORES, 72, "cpu")
    built = Experiment(
        tmp_path, core, Bench(core, grey), task="refine", steps=16, num_envs=4, about={"short_side": 72}
    )
    built.conclude({"policy": built.policy()}, 0.0)
    record = compare(
        load_policy(tmp_path), SCORES, [photographs / "input"], random_renders=4, search_renders=0
    )
    rows = record["held_out"]
    assert list(rows) == ["neutral", "libraw_auto", "random_search", "policy after one look", "policy"]
    assert [rows[name]["evaluations"] for name in list(rows)[-2:]] == [1, 5]
    assert set(record["shares_of"]) == {"policy after one look", "policy"}


def test_a_policys_row_shows_what_an_export_delivers(stored, photographs):
    bold = copy.deepcopy(stored)
    bright = [row["name"] for row in stored.card["parameters"]].index("exposure")
    bold.policy.action_net.bias.data[bright] = 1.0
    core = make_core(RawFolder([photographs / "expert"]), SCORES, 72, "cpu")
    raw, _ = play(make_envs("tune", core, 3), np.arange(3), bold.act)
    assert Bench(core, grey).at(raw, 1).clipped.mean() > 0.05
    rows = compare(bold, SCORES, [photographs / "expert"], random_renders=1, search_renders=0)["held_out"]
    assert rows["policy"]["clipped_fraction"] <= rows["neutral"]["clipped_fraction"] + 0.01
    assert rows["policy"]["reward"] != 0.0


def test_what_the_reward_likes_less_than_neutral_is_not_delivered(stored, photographs):
    dark = copy.deepcopy(stored)
    exposure = [row["name"] for row in stored.card["parameters"]].index("exposure")
    dark.policy.action_net.bias.data[exposure] = -1.0
    core = make_core(RawFolder([photographs / "expert"]), SCORES, 72, "cpu")
    raw, _ = play(make_envs("tune", core, 3), np.arange(3), dark.act)
    gains = Bench(core, grey).at(raw, 1).gains
    rows = compare(dark, SCORES, [photographs / "expert"], random_renders=1, search_renders=0)
    assert (gains < 0).any()
    shown = [row["policy"]["reward"] for row in rows["files"].values()]
    np.testing.assert_allclose(shown, np.maximum(gains, 0.0), atol=1e-6)


def test_the_curve_ends_where_the_table_stands(stored, photographs, tmp_path):
    record = compare(
        stored,
        SCORES,
        [photographs / "input"],
        further={"other": stored},
        unprocess="hurried",
        random_renders=20,
        search_renders=30,
    )
    points = [Point(**row) for row in record["curve"]]
    rows = record["held_out"]
    random = [point for point in points if point.method == "random_search"]
    assert [point.evaluations for point in random] == [1, 2, 4, 8, 16, 20]
    assert all(before.gain <= after.gain for before, after in pairwise(random))
    for name in ("random_search", "cma_es", "coordinate_search", "policy", "other"):
        last = [point for point in points if point.method == name][-1]
        assert (last.gain, last.evaluations) == pytest.approx(
            (rows[name]["reward"], rows[name]["evaluations"]), abs=1e-6
        )
        assert last.low <= last.gain <= last.high
    assert {point.method for point in points if point.kind == "policy"} == {"policy", "other"}
    write_curve(tmp_path / "curve.csv", points)
    with (tmp_path / "curve.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["gain"]) for row in written] == [point.gain for point in points]
    draw_curve(tmp_path / "curve.png", points, "three frames")
    assert Image.open(tmp_path / "curve.png").size[0] > 500


def test_a_share_is_drawn_by_scenes_and_paired():
    core = small_core(MeanGrey(1.0), sizes=[(72, 72)] * 6)
    bench = Bench(core, grey)
    whole = bench.at(np.full((6, 2), [0.2, 0.0]), 1)
    half = dataclasses.replace(whole, gains=0.5 * whole.gains)
    assert share_of(half, whole) == pytest.approx(0.5)
    assert share_interval(half, whole, bench) == pytest.approx((0.5, 0.5))  # the same in every scene
    assert share_interval(half, bench.neutral(), bench) is None
    rounded = dataclasses.replace(whole, gains=np.array([0.1] + [1e-8] * 5))
    assert share_interval(half, rounded, bench) is None  # a third of the resamples miss the one


def test_a_reference_that_is_missing_or_broken_costs_only_its_own_frame(stored, photographs, tmp_path):
    expert = (photographs / "expert" / "scene0.png").read_bytes()
    (tmp_path / "scene0.png").write_bytes(expert)
    (tmp_path / "scene1.png").write_bytes(expert[:200])
    record = compare(
        stored, SCORES, [photographs / "input"], references=tmp_path, random_renders=2, search_renders=0
    )
    assert len(record["failures"]) == 2
    assert any("scene1.png cannot be decoded" in sentence for sentence in record["failures"])
    assert record["files"]["scene1"]["neutral"]["measures"]["psnr"] is None
    own = record["files"]["scene0"]["neutral"]["measures"]["psnr"]
    assert record["held_out"]["neutral"]["measures"]["psnr"] == own


def test_a_judge_without_an_answer_is_left_out_of_the_means(stored, photographs):
    def choosy(images: torch.Tensor) -> torch.Tensor:
        values = images.mean(dim=(1, 2, 3))
        return torch.where(values == values.max(), torch.nan, values)

    scores = Judging(grey, means, grey, {"choosy": choosy}, {"eye": {}})
    record = compare(stored, scores, [photographs / "input"], random_renders=4, search_renders=0)
    assert record["held_out"]["policy"]["judges"]["choosy"]["gain"] == pytest.approx(0.0, abs=1e-6)
    assert "choosy" in table(record["held_out"])
    json.dumps(record, allow_nan=False)


def test_references_of_other_names_are_refused(stored, photographs, tmp_path):
    Image.new("RGB", (96, 72)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match="has the name of an input"):
        compare(stored, SCORES, [photographs / "input"], references=tmp_path, search_renders=0)


def test_the_interval_resamples_scenes_and_not_renders():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 25)
    scenes = np.repeat(np.arange(4), 25)
    low, high = cluster_interval(values, scenes)
    assert (low, high) == (0.5, 2.5)  # the 2.5 % and 97.5 % points of the mean of 4 draws from 0, 1, 2, 3
    alone = cluster_interval(values, np.arange(100))
    assert alone[0] > low
    assert alone[1] < high


def test_a_judge_that_falls_while_the_reward_rises_is_named():
    core = small_core(MeanGrey(1.0), sizes=[(72, 72)] * 6)
    darker = {"darkness": lambda images: -images.mean(dim=(1, 2, 3))}
    bench = Bench(core, grey, darker)
    brighter = bench.at(np.full((6, 2), [0.2, 0.0]), 1)
    sentences = fallen_judges(brighter, bench)
    assert len(sentences) == 1
    assert "the judge darkness" in sentences[0]
    assert fallen_judges(bench.neutral(), bench) == []


def test_the_split_keeps_copies_together_and_holds_at_least_one_out():
    for seed in range(20):
        training, held_out = split(["a", "b", "a", "c", "d"], seed)
        assert sorted(training + held_out) == [0, 1, 2, 3, 4]
        assert held_out
        assert ({0, 2} <= set(training)) or ({0, 2} <= set(held_out))
    assert split(["a", "a"], 0) == ([0, 1], [])


def test_embedded_scenes_are_held_out_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.scenes.write_embedded_scenes", partial(write_embedded_scenes, size=(64, 96)))
    monkeypatch.setattr("agents.scenes.TRAINING_RAWS", 3)
    monkeypatch.setattr("agents.scenes.STUDY_RAWS", 2)
    scenes = embedded_scenes(tmp_path, seed=1)
    training, held_out = (set(scenes.clusters(source.names)) for source in (scenes.training, scenes.held_out))
    assert not training & held_out
    photographed = len(training - STUDIES.keys())
    assert len(scenes.training.names) == 3 * photographed + 2 * len(STUDIES)
    assert len(scenes.held_out.names) == HELD_OUT_RAWS * len(held_out)
    assert len(list(tmp_path.glob("*.dng"))) == len(scenes.training.names) + len(scenes.held_out.names)


def test_few_photographs_become_many_raws_to_train_on_and_few_to_judge_by(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.scenes.write_scene", partial(write_scene, size=(64, 86)))
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((342, 256)).save(tmp_path / f"p{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    scenes = photograph_scenes([tmp_path], tmp_path / "raws", seed=0)
    training, held_out = (set(scenes.clusters(source.names)) for source in (scenes.training, scenes.held_out))
    assert not training & held_out
    assert len(scenes.training.names) == MOST_RAWS * len(training)
    assert len(scenes.held_out.names) == RAWS_A_PHOTOGRAPH * len(held_out)
    assert [path.name for path, _ in scenes.failures] == ["broken.png"]
    fewer = photograph_scenes([tmp_path], tmp_path / "fewer", seed=0, copies=3)
    assert len(fewer.training.names) == 3 * len(training)
    assert len(fewer.held_out.names) == len(scenes.held_out.names)


def test_few_raws_are_trained_on_in_variations_but_judged_as_they_are(tmp_path):
    training, _ = write_embedded_scenes(tmp_path, 0, raws_a_scene=1, size=(64, 86))
    scenes = raw_scenes([tmp_path], seed=0)
    raws = len(list(tmp_path.glob("*.dng")))
    held_out = len(scenes.held_out.names)
    assert scenes.copies > 1
    assert len(scenes.training.names) == (raws - held_out) * scenes.copies >= len(training)
    assert set(scenes.held_out.names) < {path.stem for path in tmp_path.glob("*.dng")}
    assert f"{raws - held_out} raws to train on, each in {scenes.copies} variations" in scenes.describe()[0]
    assert len(raw_scenes([tmp_path], seed=0, copies=2).training.names) == 2 * (raws - held_out)
