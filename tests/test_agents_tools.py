"""Tools the whole way: learn, go on after a stop, compare, report and export at full size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from agents import train_isp
from agents.answers import Sequences, sequences_at
from agents.comparing import compare
from agents.delivery import delivered
from agents.enhancer import Enhancer
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.exporting import export
from agents.judging import Judging
from agents.playing import best_so_far, looks, looks_of, make_envs, play
from agents.policy_file import load_policy
from agents.products import Products
from agents.runs import METRICS, read_metrics
from agents.training import GAIN
from attiqa.errors import InputError
from isp_env.envs import Core
from isp_env.frame import RawBatch
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import shrink
from isp_env.sources import MemoryFrames, read_frame
from isp_env.toolset import TOOLS, ToolSet
from tests.fakes import FakeTools, MeanGrey, RandomFrames, small_core
from tests.test_agents_training import SourceOf, few_updates, stop_after, weights
from tests.tiny import tiny_model

SIZES = [(72, 80)] * 6


def experiment(run: Path, algo: str = "ppo", **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    core = small_core(MeanGrey(0.6), sizes=SIZES)
    arguments: dict[str, object] = {"steps": 320, "num_envs": 16} | options
    bench = Bench(core, lambda images: images.mean(dim=(1, 2, 3)))
    return Experiment(run, core, bench, task="tools", algo=algo, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_resumed_run_of_tools_ends_as_the_unbroken_one(tmp_path, algo, monkeypatch):
    monkeypatch.setattr("agents.training.CHECKPOINT_SECONDS", 0.0)
    whole = few_updates(experiment(tmp_path / "whole", algo))
    whole.train()
    half = few_updates(experiment(tmp_path / "broken", algo))
    stop_after(half, 130)
    with pytest.raises(KeyboardInterrupt):
        half.train()
    torch.manual_seed(77)
    np.random.seed(77)
    rest = few_updates(experiment(tmp_path / "broken", algo, seed=9, continued=True))
    rest.train()
    assert rest.model.num_timesteps == whole.model.num_timesteps >= 320
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(rest)[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("algo", ["ppo", "a2c", "sac", "td3", "dqn"])
def test_an_untrained_policy_of_tools_stops_at_once(tmp_path, algo):
    built = experiment(tmp_path / "run", algo)
    outcome = built.policy()
    assert isinstance(outcome.answer, Sequences)
    assert not outcome.answer.order.any()
    np.testing.assert_allclose(outcome.gains, 0.0, atol=1e-6)


def test_ppo_learns_which_tools_help(tmp_path):
    built = experiment(tmp_path / "run", steps=1280)
    built.train()
    gains = [float(row[GAIN]) for row in read_metrics(tmp_path / "run" / METRICS) if row.get(GAIN)]
    assert np.mean(gains[-4:]) > np.mean(gains[:4]) / 2  # a step with any tool costs at first
    rows = built.compare(SourceOf(built.bench.core), 72)
    assert float(rows["policy"].gains.mean()) > 0.1 * float(rows["random_search"].gains.mean()) > 0
    summary = built.conclude(rows, 1.0)
    assert summary["held_out"]["policy"]["evaluations"] <= 5
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000


def test_dqn_is_refused_where_actions_are_continuous_before_a_folder_is_made(tmp_path, capsys):
    code = train_isp.main(["--algo", "dqn", "--out", str(tmp_path / "run")])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert line.endswith("take --task tools, or another --algo.")
    assert not (tmp_path / "run").exists()


def test_points_of_a_box_are_sequences():
    strengths = [0.25, -0.5, 0.75]
    points = np.array([[1.0, 0.2, 0.9, -0.4, *strengths], [-1.0, 0.2, 0.9, -0.4, *strengths], [0.2] * 7])
    found = sequences_at(points, FakeTools(), horizon=2)
    assert found.used(0) == [("power", -0.5), ("gain", 0.25)]
    assert found.used(1) == []
    assert len(found.used(2)) == 1
    assert found.describe(0) == "power -0.50\ngain +0.25"
    assert found.scaled(0.5).used(0) == [("power", -0.25), ("gain", 0.125)]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Judging:
    model = tiny_model(tmp_path_factory.mktemp("model"))
    return Judging(
        model,
        model.features,
        model.score,
        {},
        {"reward": "tiny", "eye": {"name": "tiny", "digest": model.digest}},
    )


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, scores: Judging) -> Path:
    """A run whose policy uses tools, whichever."""
    space = ParameterSpace(TUNE_PARAMETERS)
    core = Core(
        RandomFrames(SIZES), space, Pipeline(space), scores.score, short_side=72, encoder=scores.encoder
    )
    folder = tmp_path_factory.mktemp("run")
    about = scores.about | {"short_side": 72}
    built = Experiment(
        folder,
        core,
        Bench(core, scores.score),
        task="tools",
        algo=request.param,
        steps=64,
        num_envs=8,
        about=about,
    )
    torch.manual_seed(5)
    with torch.no_grad():
        for value in built.model.policy.parameters():
            value.add_(0.2 * torch.randn_like(value))
    built.conclude({"policy": built.policy()}, 0.0)
    return folder


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    coarse = np.random.default_rng(0).integers(30, 200, (6, 8, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photographs") / "photo.png"
    Image.fromarray(coarse).resize((320, 288), Image.Resampling.BICUBIC).save(path)
    return path


def test_an_export_is_what_the_tools_make_of_the_whole_frame(run, scores, photograph, tmp_path):
    enhancer = Enhancer(load_policy(run), scores)
    done = export(enhancer, [photograph], tmp_path, Products("png", sheet=True, report=True))
    assert not done.failures
    record = json.loads((tmp_path / "photo.json").read_text())
    assert record["tools"]
    names = [tool.name for tool in TOOLS]
    order, strengths = np.zeros((1, len(names)), np.int64), torch.zeros(1, len(names))
    for step, entry in enumerate(record["tools"], start=1):
        order[0, names.index(entry["tool"])] = step
        strengths[0, names.index(entry["tool"])] = entry["strength"]
    frame = read_frame(photograph)
    batch = RawBatch.stack([frame])
    expected = ToolSet(None, Pipeline()).render(batch, order, strengths)[0]
    pixels = cv2.imread(str(done.written[0]), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    assert pixels.shape == (288, 320, 3)
    np.testing.assert_allclose(pixels / 65535, expected.permute(1, 2, 0).numpy(), atol=2e-5)
    assert (tmp_path / "photo.sheet.png").is_file()
    assert record["tools"][0]["tool"] in (tmp_path / "report.html").read_text()


def test_an_export_shows_what_the_policy_saw(run, scores, photograph):
    enhancer = Enhancer(load_policy(run), scores)
    frame = read_frame(photograph)
    answer = enhancer.look([frame])[0].answer
    large = answer.render(RawBatch.stack([frame]), np.zeros(1, np.int64))[0]
    small = answer.render(RawBatch.stack([enhancer.small(frame)]), np.zeros(1, np.int64))[0]
    assert float((shrink(large, 72) - shrink(small, 72)).abs().mean()) < 0.02


def test_tools_make_neither_tables_nor_sidecars(run, scores, photograph, tmp_path):
    enhancer = Enhancer(load_policy(run), scores)
    for products in (Products(lut=True), Products(xmp=True)):
        with pytest.raises(InputError, match="a policy of tools sets no parameters"):
            export(enhancer, [photograph], tmp_path, products)
    assert list(tmp_path.iterdir()) == []


def test_the_evaluation_table_has_the_policy_of_tools(run, scores, photograph):
    record = compare(load_policy(run), scores, [photograph], random_renders=4, search_renders=0)
    assert record["held_out"]["policy"]["reward"] != 0.0


def test_what_clips_anew_is_drawn_back_to_less_of_every_tool():
    core = small_core(MeanGrey(), sizes=[(72, 80)])
    tools = ToolSet(["exposure"], core.pipeline)
    bright = Sequences(np.ones((1, 1), np.int64), np.ones((1, 1), np.float32), tools)
    answer, shares = delivered(core, np.zeros(1, np.int64), bright)
    assert shares[0] < 1.0
    assert isinstance(answer, Sequences)
    assert answer.used(0) == [("exposure", float(np.float32(shares[0])))]


def test_tools_give_a_picture_in_black_and_white_no_tint():
    image = torch.linspace(0.1, 0.5, 72 * 80).view(1, 72, 80).expand(3, -1, -1).contiguous()
    grey = dataclasses.replace(
        RandomFrames([(72, 80)]).frame(0, 72),
        image=image,
        white_balance=torch.ones(3),
        color_matrix=torch.eye(3),
    )
    space = ParameterSpace()
    core = Core(MemoryFrames([grey]), space, Pipeline(space), MeanGrey(), short_side=72)
    tools = ToolSet(["temperature", "contrast"], core.pipeline)
    warm = Sequences(np.array([[1, 2]]), np.array([[0.5, -0.25]], np.float32), tools)
    answer, _ = delivered(core, np.zeros(1, np.int64), warm)
    assert isinstance(answer, Sequences)
    assert answer.used(0) == [("temperature", 0.0), ("contrast", -0.25)]
    assert answer.differs(warm).all()


def test_an_episode_answers_with_the_best_of_its_looks():
    core = small_core(MeanGrey(), sizes=SIZES)
    moves = np.random.default_rng(3).uniform(-0.6, 0.6, (5, 3, 2)).astype(np.float32)
    decided = iter(moves)
    answer, steps = play(make_envs("refine", core, 3), np.arange(3), lambda seen: next(decided))
    settings = np.zeros((6, 3, 2), np.float32)
    for number, move in enumerate(moves):
        settings[number + 1] = np.clip(settings[number] + move, -1, 1)
    looked = settings[1:]  # the neutral render is no answer
    potentials = [core.potential_of(np.arange(3), core.space.to_physical(torch.tensor(s))) for s in looked]
    best = torch.stack(potentials).argmax(dim=0).numpy()
    assert steps == 5
    assert (best != 4).any()
    np.testing.assert_allclose(answer.actions, looked[best, np.arange(3)], atol=1e-6)  # type: ignore[attr-defined]
    decided = iter(moves)
    found = best_so_far(looks_of(make_envs("refine", core, 3), np.arange(3), lambda seen: next(decided)))
    for count, after in enumerate(list(found), start=1):
        most, best = torch.stack(potentials[:count]).max(dim=0)
        np.testing.assert_allclose(after.answer.actions, looked[best, np.arange(3)], atol=1e-6)  # type: ignore[attr-defined]
        np.testing.assert_allclose(after.potential, most, atol=1e-6)


def test_inputs_are_standardised_by_what_later_looks_show_too():
    core = small_core(MeanGrey(), sizes=SIZES)
    assert all(len(rows) == 3 for rows in looks(make_envs("tune", core, 3)).values())
    seen = looks(make_envs("refine", core, 3), lambda seen: np.full((3, 2), 0.3, np.float32))
    assert all(len(rows) == 6 for rows in seen.values())
    assert not seen["setting"][:3].any()
    assert (seen["setting"][3:] != 0).all()
    assert np.abs(seen["histogram"][3:] - seen["histogram"][:3]).max() > 0.01
