"""Policies of one look that also read how the reward rises at the neutral render."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents import train_isp
from agents.enhancer import chooser
from agents.kept_slopes import bring_slopes
from agents.playing import envs_of, first_look, make_envs, play
from agents.policy import StandardisedExtractor, act
from agents.policy_file import CARD, StoredPolicy, load_policy
from agents.runs import START
from agents.starting import ONE_LOOK, exchange_start
from attiqa.errors import InputError
from attiqa.options import as_record
from attiqa.rewards.guarded import GuardedReward
from isp_env.envs.core import Core
from isp_env.envs.frames import Group, Tensors
from tests.test_agents_climb import experiment as climb_experiment
from tests.test_agents_training import check_ends_as_unbroken
from tests.test_slopes import Even, Opaque, real_core


def experiment(run: Path, **options: object):
    arguments: dict[str, object] = {"task": "tune", "algo": "dpg", "steps": 256} | options
    return climb_experiment(run, real_core(Even()), **arguments)


def stored_by(run: Path, built) -> StoredPolicy:
    """A policy that answers, though nothing that was learnt."""
    built.about = {"short_side": 72}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in (*built.model.policy.actor.mu.parameters(), *built.model.policy.critics.parameters()):
            weights.normal_(0.0, 0.1, generator=generator)
    built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
    return load_policy(run)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> StoredPolicy:
    run = tmp_path_factory.mktemp("runs") / "plain"
    return stored_by(run, experiment(run))


@pytest.fixture(scope="module")
def sloped(tmp_path_factory: pytest.TempPathFactory) -> StoredPolicy:
    run = tmp_path_factory.mktemp("runs") / "sloped"
    return stored_by(run, experiment(run, slopes=True))


def test_a_policy_that_reads_slopes_is_stored_and_played(sloped: StoredPolicy) -> None:
    assert sloped.sees_slopes
    core = real_core(Even())
    frames = np.arange(len(core))
    seen = first_look(make_envs("tune", core, len(core), "dpg", slopes=True), frames)
    chosen = sloped.act(seen)
    elsewhere = seen | {"slope": seen["slope"][::-1].copy()}
    assert np.abs(sloped.act(elsewhere) - chosen).max() > 1e-4  # they count
    answer, steps = play(envs_of(sloped, core), frames, sloped.act)
    assert steps == 1
    np.testing.assert_array_equal(answer.actions.astype(np.float32), chosen)  # type: ignore[attr-defined]


def test_without_slopes_a_policy_answers_as_to_their_mean(sloped: StoredPolicy) -> None:
    core, bare = real_core(Even()), sloped.without_slopes()
    assert sloped.sees_slopes
    assert not bare.sees_slopes
    frames = np.arange(len(core))
    seen = first_look(make_envs("tune", core, len(core), "dpg", slopes=True), frames)
    mean = next(module for module in sloped.policy.modules() if isinstance(module, StandardisedExtractor))
    usual = np.tile(mean.mean_of("slope").numpy(), (len(core), 1))
    answer, _ = play(envs_of(bare, core), frames, bare.act)
    told = sloped.act(seen | {"slope": usual})
    np.testing.assert_array_equal(answer.actions.astype(np.float32), told)  # type: ignore[attr-defined]
    assert np.abs(told - sloped.act(seen)).max() > 1e-4


def test_a_run_that_reads_slopes_ends_resumed_as_unbroken(tmp_path: Path) -> None:
    build = functools.partial(experiment, algo="ppo", slopes=True)
    check_ends_as_unbroken(build, tmp_path, 200, kept=192)


@pytest.mark.parametrize("algo", ["dpg", "ppo"])
def test_a_start_without_slopes_answers_the_same_until_they_are_learnt(
    plain: StoredPolicy, tmp_path: Path, algo: str
) -> None:
    built = experiment(tmp_path / "run", algo=algo, first=plain, slopes=True)
    core = built.bench.core
    seen = first_look(make_envs("tune", core, len(core), "dpg", slopes=True), np.arange(len(core)))
    expected = plain.act(seen)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(act(built.model.policy, seen), expected, atol=1e-6)
    reader = next(m for m in built.model.policy.modules() if isinstance(m, StandardisedExtractor))
    told = reader({key: torch.from_numpy(seen[key]).flatten(1) for key in built.env.observation_space.spaces})
    # standardised by the training frames, not left as it came
    assert 0.3 < float(told[:, -len(core.space) :].std(dim=0).max()) < 3.0
    if algo == "dpg":
        actions = torch.from_numpy(expected)
        features, _ = plain.policy.obs_to_tensor({key: seen[key] for key in plain.sees})
        torch.testing.assert_close(
            built.model.policy.gains(told, actions),
            plain.policy.gains(plain.policy.features(features), actions),  # type: ignore[operator]
        )


def test_a_start_that_reads_slopes_brings_them_along(sloped: StoredPolicy, tmp_path: Path) -> None:
    core = real_core(Even())
    for task, algo in (("tune", "ppo"), ("refine", "dpg"), ("refine", "climb")):
        built = experiment(tmp_path / f"{task}-{algo}", task=task, algo=algo, first=sloped)
        env = make_envs(task, core, len(core), algo, slopes=True)
        seen = first_look(env, np.arange(len(core)))
        # climb begins there when it learns; else it takes slopes into account
        found = act(built.model.policy, seen) if algo != "climb" else built.model.predict(seen)[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(found, sloped.act(seen), atol=1e-6)
        built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
        assert load_policy(tmp_path / f"{task}-{algo}").sees_slopes


def test_another_first_look_sees_what_the_first_one_saw(
    plain: StoredPolicy, sloped: StoredPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.starting.check_start", lambda options: None)
    (tmp_path / START).mkdir()
    (tmp_path / START / CARD).touch()
    monkeypatch.setattr("agents.starting.load_policy", lambda path: plain if path.name == START else sloped)
    with pytest.raises(InputError, match=r"other sees .*slope"):
        exchange_start(tmp_path, {"start": "other"})


def test_slopes_that_cannot_be_had_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_isp.main(["--task", "tools", "--slopes", "--out", str(tmp_path / "run")]) == 2
    assert "the task tools sets none" in capsys.readouterr().err

    class OpaqueEye(Opaque):
        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    with pytest.raises(InputError, match="OpaqueEye gives no gradient"):
        climb_experiment(tmp_path / "opaque", real_core(OpaqueEye()), task="tune", algo="dpg", slopes=True)


def test_a_policy_that_reads_slopes_needs_the_reward_that_they_are_of(sloped: StoredPolicy) -> None:
    card = {"task": "tune", "reward": "my:reward", "network": sloped.card["network"]}
    assert chooser(card) == "my:reward"
    seen = {key: box for key, box in card["network"]["observation_space"].items() if key != "slope"}
    assert chooser(card | {"network": {"observation_space": seen}}) == "attiqa-mini"


def test_the_command_line_asks_for_slopes() -> None:
    assert as_record(train_isp.TrainOptions(slopes=True))["slopes"] is True
    assert as_record(train_isp.TrainOptions())["slopes"] is False
    assert load_policy(ONE_LOOK).sees_slopes  # and so does a default run, which begins with it


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames were looked back from, in blocks."""
    blocks: list[int] = []
    look_back = Core._look_back

    def counted(self: Core, group: Group, **options: Any) -> Tensors:
        blocks.append(len(group.rows))
        return look_back(self, group, **options)

    monkeypatch.setattr(Core, "_look_back", counted)
    return blocks


def test_a_runs_slopes_are_measured_once(measured: list[int], tmp_path: Path) -> None:
    folder = tmp_path / "slopes"
    first, again = real_core(Even()), real_core(Even())
    frames = np.arange(len(first))
    bring_slopes(folder, first)
    assert sum(measured) == len(first)
    bring_slopes(folder, again)
    assert sum(measured) == len(first)
    assert torch.equal(again.neutral_slope_of(frames), first.neutral_slope_of(frames))
    assert again.neutral_slope_of(frames).abs().max() > 0
    assert sum(measured) == len(first)
    with pytest.raises(InputError, match=r"rows of the shape \(4, 14\) are wanted; these have \(1, 1\)"):
        again.know_neutral_slopes(torch.zeros(1, 1))


def test_slopes_of_parts_and_of_their_mean_are_kept_apart(measured: list[int], tmp_path: Path) -> None:
    cores = [real_core(GuardedReward([Even()])) for _ in range(4)]
    frames, folder = np.arange(len(cores[0])), tmp_path / "slopes"
    for core, apart in zip(cores, (False, True, False, True), strict=True):
        bring_slopes(folder, core, apart)
    assert sum(measured) == 2 * len(frames)
    apart = cores[3].neutral_slopes_of(frames)
    assert torch.equal(apart, cores[1].neutral_slopes_of(frames))
    assert torch.equal(cores[3].neutral_slope_of(frames), apart.mean(dim=1))
    torch.testing.assert_close(cores[2].neutral_slope_of(frames), apart.mean(dim=1), rtol=1e-3, atol=1e-6)
    assert sum(measured) == 2 * len(frames)


@pytest.mark.parametrize("spoilt", ["another reward", "broken"])
def test_kept_slopes_of_something_else_are_measured_anew(
    measured: list[int], tmp_path: Path, spoilt: str
) -> None:
    folder = tmp_path / "slopes"
    core = real_core(Even())
    bring_slopes(folder, real_core(lambda images: 2 * Even()(images)) if spoilt == "another reward" else core)
    if spoilt == "broken":
        (path,) = folder.iterdir()
        path.write_bytes(path.read_bytes()[:-9])
    before, core = sum(measured), real_core(Even())
    bring_slopes(folder, core)
    assert sum(measured) == before + len(core)
    fresh = real_core(Even())
    bring_slopes(folder, fresh)  # what was measured anew is kept
    assert sum(measured) == before + len(core)
    frames = np.arange(len(core))
    assert torch.equal(fresh.neutral_slope_of(frames), core.neutral_slope_of(frames))
