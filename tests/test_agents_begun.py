"""Runs that begin with what a policy of one look has learnt: they go on from it, or look again."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import train_isp
from agents.checkpoint import load_checkpoint
from agents.combine import combine
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.launch import check_inputs
from agents.playing import first_look, make_envs
from agents.policy import act
from agents.policy_file import StoredPolicy, load_policy
from agents.runs import CHECKPOINT, START
from agents.starting import ONE_LOOK, beginning, start_of
from attiqa.errors import InputError
from attiqa.files import write_json
from attiqa.options import as_record
from tests.fakes import MeanGrey, RandomFrames, small_core
from tests.test_agents_training import check_ends_as_unbroken, stop_after

SIZES = tuple((72, 72 + 8 * (number % 2)) for number in range(10))


def experiment(run: Path, **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    core = small_core(MeanGrey(0.45), sizes=SIZES)
    arguments: dict[str, object] = {"steps": 320, "num_envs": 16, "algo": "dpg"} | options
    bench = Bench(core, lambda images: images.mean(dim=(1, 2, 3)))
    return Experiment(run, core, bench, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_look(tmp_path_factory: pytest.TempPathFactory) -> StoredPolicy:
    """A little trained, so that it answers."""
    run = tmp_path_factory.mktemp("runs") / "tune"
    built = experiment(run, steps=512)
    built.about = {"short_side": 72}
    built.train()
    built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
    return load_policy(run)


def test_the_first_change_is_the_one_look_policys_and_the_next_the_learners(one_look, tmp_path):
    built = experiment(tmp_path / "run", task="refine", first=one_look)
    core = built.bench.core
    frames = np.arange(len(core))
    expected = one_look.act(first_look(make_envs("tune", core, len(core), "dpg"), frames))
    assert np.abs(expected).max() > 0.05
    env = make_envs("refine", core, len(core), "dpg")
    seen = first_look(env, frames)
    chosen = built.model.predict(seen, deterministic=True)[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(chosen, expected, atol=1e-6)
    later = env.seen(env.env.step_tensors(chosen).observation)
    # the learner's own actor starts at the identity
    unlearnt = built.model.predict(later, deterministic=True)[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(unlearnt, 0.0, atol=1e-6)


def test_the_first_change_is_neither_explored_nor_learnt(one_look, tmp_path):
    built = experiment(tmp_path / "run", task="refine", first=one_look)
    before = {name: value.clone() for name, value in built.model.policy.state_dict().items()}
    built.train()
    after = built.model.policy.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if name.startswith("first.")}
    assert {name for name in changed if name.startswith("actor.mu")}
    replay = built.model.replay_buffer  # type: ignore[attr-defined]
    core, frames = built.bench.core, np.arange(len(built.bench.core))
    answers = one_look.act(first_look(make_envs("tune", core, len(core), "dpg"), frames))
    distance = np.abs(replay.actions[: replay.pos, :, None] - answers).max(axis=-1).min(axis=-1)  # (T, slots)
    first = np.arange(replay.pos) % 5 == 0
    assert distance[first].max() < 1e-5
    assert np.median(distance[~first]) > 0.01


def test_a_run_with_a_start_is_resumed_and_stored(one_look, tmp_path):
    whole = experiment(tmp_path / "whole", task="refine", first=one_look)
    whole.train()
    half = experiment(tmp_path / "half", task="refine", first=one_look, steps=160)
    half.train()
    rest = experiment(tmp_path / "half", task="refine", first=one_look, seed=5)
    load_checkpoint(tmp_path / "half" / CHECKPOINT, rest.model)
    for name, value in half.model.policy.state_dict().items():
        torch.testing.assert_close(rest.model.policy.state_dict()[name], value, rtol=0, atol=0)
    whole.conclude({"neutral": whole.bench.neutral(), "policy": whole.policy()}, 1.0)
    stored = load_policy(tmp_path / "whole")
    seen = first_look(make_envs("refine", whole.bench.core, len(SIZES), "dpg"), np.arange(len(SIZES)))
    np.testing.assert_array_equal(stored.act(seen), whole.model.predict(seen, deterministic=True)[0])  # type: ignore[arg-type]


def test_a_run_that_goes_on_may_begin_with_another_first_look(one_look, tmp_path, monkeypatch):
    half = experiment(tmp_path / "half", task="refine", first=one_look, steps=160)
    half.train()
    core, frames = half.bench.core, np.arange(len(SIZES))
    later = experiment(tmp_path / "tune", steps=640)
    later.about = {"short_side": 256}
    later.train()
    later.conclude({"neutral": later.bench.neutral(), "policy": later.policy()}, 1.0)
    other = load_policy(tmp_path / "tune")
    seen = first_look(make_envs("refine", core, len(frames), "dpg"), frames)
    assert np.abs(other.act(seen) - one_look.act(seen)).max() > 0.01
    rest = experiment(tmp_path / "half", task="refine", first=other, continued=True)
    rest.train()
    np.testing.assert_allclose(act(rest.model.policy, seen), other.act(seen), atol=1e-6)

    built = []
    monkeypatch.setattr(
        train_isp, "build_experiment", lambda run, options, **_: (built.append(options), None)
    )
    monkeypatch.setattr(train_isp, "finish", lambda *_: None)
    monkeypatch.setattr("agents.starting.TUNE_PARAMETERS", core.space.names)
    own = as_record(train_isp.TrainOptions(task="refine", algo="dpg", device="cpu", start="moved away"))
    write_json(tmp_path / "half" / "config.json", {"options": own})
    for said in ([], ["--start", str(tmp_path / "tune")], []):
        assert train_isp.main(["--resume", str(tmp_path / "half"), *said]) == 0
    assert [options["start"] for options in built] == ["moved away", *[str(tmp_path / "tune")] * 2]
    assert load_policy(tmp_path / "half" / START).digest == other.digest
    write_json(tmp_path / "half" / "config.json", {"options": own | {"start": None}})
    assert train_isp.main(["--resume", str(tmp_path / "half"), "--start", str(tmp_path / "tune")]) == 2


def test_ppo_goes_on_from_what_a_policy_of_one_look_answers(one_look, tmp_path):
    built = experiment(tmp_path / "run", algo="ppo", first=one_look, steps=1024)
    core = built.bench.core
    seen = first_look(make_envs("tune", core, len(core), "ppo"), np.arange(len(core)))
    expected = one_look.act(seen)
    np.testing.assert_allclose(act(built.model.policy, seen), expected, atol=1e-6)
    built.train()
    moved = np.abs(act(built.model.policy, seen) - expected)
    assert 1e-3 < moved.max() < 0.5
    rows = built.compare(RandomFrames(SIZES), 72)
    # the table says what the run began with, beside what it made of it
    np.testing.assert_allclose(rows["start"].gains, built.bench.at(expected, 1).gains, atol=1e-6)
    assert not np.array_equal(rows["policy"].gains, rows["start"].gains)
    built.conclude(rows, 1.0)
    stored = load_policy(tmp_path / "run")
    np.testing.assert_array_equal(stored.act(seen), act(built.model.policy, seen))
    again = experiment(tmp_path / "again", algo="ppo", first=stored)
    np.testing.assert_allclose(act(again.model.policy, seen), stored.act(seen), atol=1e-6)
    # and it makes the first change of a policy of several looks
    several = experiment(tmp_path / "several", task="refine", first=stored)
    look = first_look(make_envs("refine", core, len(core), "dpg"), np.arange(len(core)))
    np.testing.assert_allclose(act(several.model.policy, look), stored.act(look), atol=1e-6)


@pytest.mark.parametrize("task, algo", [("tune", "ppo"), ("tune", "dpg"), ("refine", "dpg")])
def test_runs_go_on_from_a_policy_of_any_width(one_look, tmp_path, task, algo):
    wide = combine([one_look, one_look])
    built = experiment(tmp_path / "run", task=task, algo=algo, first=wide)
    core = built.bench.core
    seen = first_look(make_envs(task, core, len(core), algo), np.arange(len(core)))
    np.testing.assert_allclose(act(built.model.policy, seen), one_look.act(seen), atol=1e-6)
    built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
    assert load_policy(tmp_path / "run").hidden == [2 * size for size in one_look.hidden]


def test_dpg_goes_on_from_a_stored_policy_once_its_critics_know_enough(one_look, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.training.BEGUN_PATIENCE", 256)
    built = experiment(tmp_path / "run", first=one_look, steps=256)
    core = built.bench.core
    seen = first_look(make_envs("tune", core, len(core), "dpg"), np.arange(len(core)))
    expected = one_look.act(seen)
    np.testing.assert_allclose(act(built.model.policy, seen), expected, atol=1e-6)
    for own, stored in zip(built.model.policy.critics, one_look.policy.critics, strict=True):
        torch.testing.assert_close(own.action.weight, stored.action.weight, rtol=0, atol=0)
    stop_after(built, 240)
    with pytest.raises(KeyboardInterrupt):
        built.train()
    np.testing.assert_allclose(act(built.model.policy, seen), expected, atol=1e-6)  # it has waited
    rest = experiment(tmp_path / "run", first=one_look, steps=512, continued=True)
    rest.train()
    moved = np.abs(act(rest.model.policy, seen) - expected)
    assert 1e-3 < moved.max() < 0.5
    rows = rest.compare(RandomFrames(SIZES), 72)
    np.testing.assert_allclose(rows["start"].gains, rest.bench.at(expected, 1).gains, atol=1e-6)
    assert not np.array_equal(rows["policy"].gains, rows["start"].gains)
    rest.conclude(rows, 1.0)
    np.testing.assert_array_equal(load_policy(tmp_path / "run").act(seen), act(rest.model.policy, seen))


def test_a_ppo_run_with_a_start_ends_as_the_unbroken_one(one_look, tmp_path):
    build = functools.partial(experiment, algo="ppo", first=one_look, steps=1024)
    check_ends_as_unbroken(build, tmp_path, 800, kept=512)


def test_where_nothing_is_said_ppo_goes_on_from_the_policy_that_ships():
    def start(**said: object) -> str | None:
        return start_of(as_record(train_isp.TrainOptions(**said)))  # type: ignore[arg-type]

    assert start() == str(ONE_LOOK)
    assert start(start="neutral") is None
    assert start(start="RUN", algo="dpg") == "RUN"
    others: list[dict[str, object]] = [
        {"algo": "dpg"},
        {"task": "refine"},
        {"task": "tools"},
        {"short_side": 128},
        {"reward": "attiqa-mini"},
    ]
    assert [start(**other) for other in others] == [None] * len(others)


def test_who_begins_at_the_neutral_render_with_ppo_hears_of_dpg():
    assert "--algo dpg" in beginning(None, {"task": "tune", "algo": "ppo"})
    for task, algo in (("tune", "dpg"), ("refine", "ppo"), ("tools", "ppo")):
        assert beginning(None, {"task": task, "algo": algo}) == "begins at the neutral render."


@pytest.mark.parametrize("other", [["--algo", "sac"], ["--task", "refine"]])
def test_a_start_belongs_to_learners_that_can_go_on(other, tmp_path, capsys):
    given = [*other, "--start", str(ONE_LOOK), "--out", str(tmp_path / "run")]
    assert train_isp.main(given) == 2
    assert "belongs to --task tune --algo ppo or dpg and to --task refine" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_start_of_another_kind_is_refused(one_look, tmp_path):
    options = as_record(train_isp.TrainOptions(task="refine", algo="dpg", start=str(tmp_path)))
    with pytest.raises(InputError, match="does not exist"):
        check_inputs(options | {"device": "cpu"})
    stored = tmp_path / "other"
    other = experiment(stored, algo="ppo", steps=128)
    other.about = {"short_side": 256}
    other.conclude({"neutral": other.bench.neutral(), "policy": other.policy()}, 1.0)
    with pytest.raises(InputError, match="is one of tune, ppo and 256, with 2 parameters"):
        check_inputs(options | {"device": "cpu", "start": str(stored)})
    with pytest.raises(InputError, match="or with --algo ppo from such a start"):
        check_inputs(options | {"device": "cpu", "start": str(stored), "task": "tune", "algo": "ppo"})


def test_spare_needs_raws_or_photographs(capsys):
    assert train_isp.main(["--spare"]) == 2
    assert "--copies and --spare belong to" in capsys.readouterr().err
