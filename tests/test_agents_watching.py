"""While it learns, a run tells when its reward parts from its judges, and when nothing is gained any more."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from agents import watching
from agents.answers import Answer
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.judging import Judges
from agents.runs import CHECKPOINT, METRICS, read_metrics
from agents.watching import AGAINST, JUDGE, JUDGES, HeldOut, median_judge
from attiqa.rewards.protocol import Reward
from tests.fakes import MeanGrey, small_core
from tests.test_agents_training import SIZES, stop_after, weights


def grey(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


def darkness(images: torch.Tensor) -> torch.Tensor:
    return -images.mean(dim=(1, 2, 3))


def watched(judges: Mapping[str, Reward], exposures: list[float]) -> HeldOut:
    """Held-out scenes on which the policy sets one exposure (in half ranges) after the other."""
    bench = Bench(small_core(MeanGrey(1.0), sizes=[(72, 72)] * 6), grey, judges)
    steps = iter(exposures)

    def answer() -> tuple[Answer, int]:
        return bench.settings(np.full((6, 2), [next(steps), 0.0])), 1

    return HeldOut(bench, answer)


def test_a_reward_that_rises_while_the_judges_fall_is_told_in_a_sentence():
    held_out = watched({"darkness": darkness}, [0.0, -0.1, 0.2])
    assert held_out.look(0)[AGAINST] == 0.0
    assert held_out.look(64)[AGAINST] == 0.0  # the judge rises, the reward falls: no matter
    values = held_out.look(128)
    assert values[AGAINST] == 1.0
    assert values[JUDGES] < 0 < values["evaluation/gain"]
    assert held_out.sentence is not None
    assert held_out.sentence.startswith("since render 64 the reward rose by 0.")
    assert "darkness) fell by" in held_out.sentence
    assert held_out.record()["held_at_steps"] == [128]


def test_a_judge_that_rises_too_is_no_warning():
    held_out = watched({"grey": grey}, [0.0, 0.1, 0.2])
    assert [held_out.look(step)[AGAINST] for step in (0, 64, 128)] == [0.0, 0.0, 0.0]
    assert held_out.sentence is None


def test_one_judge_against_two_is_outvoted():
    judges = {"darkness": darkness, "grey": grey, "tenfold": lambda images: 10 * grey(images)}
    held_out = watched(judges, [0.0, 0.2])
    held_out.look(0)
    values = held_out.look(64)
    assert values[AGAINST] == 0.0
    assert values[JUDGE + "tenfold"] == pytest.approx(10 * values[JUDGE + "grey"], rel=1e-4)


def test_a_fall_that_raws_do_not_agree_on_is_no_warning():
    def torn(images: torch.Tensor) -> torch.Tensor:  # likes light in half of the raws
        means = images.mean(dim=(1, 2, 3))
        return torch.where(torch.arange(len(images)) % 2 == 0, means, -1.01 * means)

    held_out = watched({"torn": torn}, [0.0, 0.2])
    held_out.look(0)
    assert held_out.look(64)[AGAINST] == 0.0


def test_the_median_judge_has_no_unit_and_leaves_out_what_is_not_finite():
    gains = {
        "a": np.array([1.0, 2.0]),
        "b": np.array([100.0, np.nan]),
        "c": np.array([0.0, 0.0]),
        "constant": np.array([9.0, 9.0]),
    }
    found = median_judge(gains, {"a": 1.0, "b": 50.0, "c": 3.0, "constant": 0.0})
    np.testing.assert_allclose(found, [1.0, 1.0])


def test_judges_look_at_few_frames_of_many(monkeypatch):
    monkeypatch.setattr(watching, "MOST_JUDGED", 2)
    seen: list[int] = []

    def counting(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return grey(images)

    held_out = watched({"counting": counting}, [0.1])
    seen.clear()  # the neutral renders
    held_out.look(0)
    assert sum(seen) == 2


def test_what_was_seen_before_a_stop_counts_after_it():
    first = watched({"darkness": darkness}, [0.0, -0.1])
    first.look(0)
    first.look(64)
    later = watched({"darkness": darkness}, [0.2])
    later.restore(json.loads(json.dumps(first.state())))
    assert later.look(128)[AGAINST] == 1.0
    assert later.sentence is not None
    assert later.sentence.startswith("since render 64")


def test_a_plateau_is_so_many_evaluations_without_a_better_gain():
    held_out = watched({}, [0.0, 0.1, 0.05, 0.1, 0.2, 0.1, 0.1, 0.1])
    held_out.patience = 2
    found = []
    for step in range(8):
        held_out.look(step)
        found.append(held_out.enough())
    assert found == [False, False, False, True, False, False, True, True]


def experiment(run, judges: Mapping[str, Reward] | None = None, **options: object) -> Experiment:
    run.mkdir(exist_ok=True)
    core = small_core(MeanGrey(0.45), sizes=SIZES)
    arguments: dict[str, object] = {"steps": 4096, "num_envs": 16, "every": 128} | options
    return Experiment(run, core, Bench(core, grey, judges), **arguments)  # type: ignore[arg-type]


def test_a_run_ends_on_its_plateau_and_a_resumed_one_at_the_same_step(tmp_path):
    whole = experiment(tmp_path / "whole", patience=2)
    whole.train()
    assert whole.held_out.enough()
    assert 0 < whole.model.num_timesteps < 4096
    broken = experiment(tmp_path / "broken", patience=2)
    stop_after(broken, whole.model.num_timesteps - 150)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    rest = experiment(tmp_path / "broken", patience=2, continued=True)
    rest.train()
    assert rest.model.num_timesteps == whole.model.num_timesteps
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(rest)[name], value, rtol=0, atol=0, msg=name)
    summary = rest.conclude({"policy": rest.policy()}, 0.0)
    assert summary["finished"] is True
    assert summary["stopped_by"] == "plateau"
    # resumed once more: it stands there still
    again = experiment(tmp_path / "broken", patience=2, continued=True)
    again.train()
    assert again.model.num_timesteps == whole.model.num_timesteps
    on = experiment(tmp_path / "broken", steps=whole.model.num_timesteps + 128, continued=True)
    on.train()
    assert on.model.num_timesteps == whole.model.num_timesteps + 128


def test_judges_go_into_metrics_summary_and_report(tmp_path, capsys):
    built = experiment(tmp_path / "run", {"darkness": darkness}, steps=1024)
    built.train()
    rows = [row for row in read_metrics(tmp_path / "run" / METRICS) if row.get(JUDGE + "darkness")]
    assert len(rows) >= 8
    assert float(rows[0][JUDGE + "darkness"]) == 0.0  # an untrained policy renders neutral
    summary = built.conclude({"neutral": built.bench.neutral(), "policy": built.policy()}, 1.0)
    assert summary["judges_in_training"]["names"] == ["darkness"]
    assert "darkness" in summary["held_out"]["policy"]["judges"]
    last = float(rows[-1][AGAINST])
    assert bool(last) == any("since" in sentence for sentence in summary["warnings"])
    assert (tmp_path / "run" / "report.png").is_file()
    assert (tmp_path / "run" / CHECKPOINT).is_file()


def test_who_judges_is_told_in_one_line():
    (line,) = Judges(missing=("niqe does not judge: no file.",)).describe(asked=False)
    assert line.startswith("no judge outside the reward is at hand (niqe does not judge: no file)")
    assert Judges({"a": grey, "b": grey}).describe(asked=False) == ["beside the reward, judged by a, b."]
    lines = Judges({"a": grey}, missing=("x does not judge: y.",)).describe(asked=True)
    assert lines == ["x does not judge: y.", "beside the reward, judged by a."]
