"""Several policies of one look become one, which answers with the mean of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.combine import combine, main
from agents.policy import act, actor_of, build_policy, calibrate
from agents.policy_file import StoredPolicy, describe_network, load_policy, save_policy
from agents.starting import check_start
from attiqa.errors import InputError
from isp_env.parameters import TUNE_PARAMETERS

SEES = spaces.Dict(
    {
        "features": spaces.Box(-1.0, 1.0, (30,), np.float32),
        "clipping": spaces.Box(0.0, 1.0, (6,), np.float32),
    }
)
ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32)


def looks(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "features": generator.normal(0, 0.3, (40, 30)).astype(np.float32),
        "clipping": generator.uniform(0, 1, (40, 6)).astype(np.float32),
    }


def member(
    folder: Path,
    seed: int,
    *,
    algo: str = "dpg",
    hidden: tuple[int, ...] = (8, 6),
    standard: int = 0,
    **card: object,
) -> Path:
    """A policy with weights of its own, in a folder."""
    begun = algo == "ppo"
    policy = build_policy(algo, SEES, ACTIONS, list(hidden), log_std=-1.0, begun=begun)
    torch.manual_seed(seed)
    for layer in actor_of(policy)[1]:
        torch.nn.init.normal_(layer.weight, std=0.4)
        torch.nn.init.normal_(layer.bias, std=0.2)
    calibrate(policy, looks(standard))
    about = {
        "task": "tune",
        "parameters": [],
        "eye": {},
        "short_side": 256,
        "steps": 10,
        "reward": "one",
    } | card
    save_policy(folder, policy, describe_network(algo, SEES, ACTIONS, list(hidden), -1.0, begun), about)
    return folder


def before_tanh(stored: StoredPolicy) -> np.ndarray:
    return np.arctanh(act(stored.policy, looks(1)).astype(np.float64))


@pytest.mark.parametrize("algo", ["dpg", "ppo"])
def test_the_answer_is_the_mean_of_theirs_before_the_last_tanh(algo, tmp_path):
    folders = [member(tmp_path / str(seed), seed, algo=algo, hidden=(8, 6 + seed)) for seed in range(3)]
    members = [load_policy(folder) for folder in folders]
    answers = [before_tanh(stored) for stored in members]
    assert np.abs(answers[0] - answers[1]).max() > 0.1
    assert main(["--run", *map(str, folders), "--out", str(tmp_path / "one")]) == 0
    made = load_policy(tmp_path / "one")
    assert made.hidden == [24, 21]
    np.testing.assert_allclose(before_tanh(made), np.mean(answers, axis=0), atol=1e-5)
    assert [entry["policy_digest"] for entry in made.card["members"]] == [stored.digest for stored in members]
    assert made.card["steps"] == 30
    # of the combined one a combination is made as well
    again = combine([made, members[0]])
    np.testing.assert_allclose(before_tanh(again), (np.mean(answers, axis=0) + answers[0]) / 2, atol=1e-5)


def test_what_is_no_actor_comes_from_the_first_of_dpgs_policies(tmp_path):
    members = [load_policy(member(tmp_path / str(seed), seed)) for seed in range(2)]
    torch.nn.init.normal_(members[0].policy.critics[0].state.weight)
    made = combine(members)
    for own, first in zip(made.policy.critics, members[0].policy.critics, strict=True):
        torch.testing.assert_close(own.state_dict(), first.state_dict(), rtol=0, atol=0)


def test_the_value_of_ppos_policies_is_the_mean_of_theirs(tmp_path):
    members = [load_policy(member(tmp_path / str(seed), seed, algo="ppo")) for seed in range(2)]
    seen, _ = members[0].policy.obs_to_tensor(looks(1))
    for number, stored in enumerate(members):
        torch.nn.init.normal_(stored.policy.value_net.weight)
        stored.policy.log_std.data.fill_(-1.0 - number)
    values = torch.stack([stored.policy.predict_values(seen) for stored in members])
    made = combine(members).policy
    torch.testing.assert_close(made.predict_values(seen), values.mean(dim=0), rtol=0, atol=1e-6)
    assert made.log_std.unique().tolist() == [-1.0]


def of_another_eye(folder: Path) -> Path:
    return member(folder, 1, eye={"name": "another"})


def of_other_inputs(folder: Path) -> Path:
    return member(folder, 1, standard=5)


def of_more_layers(folder: Path) -> Path:
    return member(folder, 1, hidden=(8, 6, 6))


def of_another_task(folder: Path) -> Path:
    return member(folder, 1, task="refine")


def of_another_learner(folder: Path) -> Path:
    return member(folder, 1, algo="ppo")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (of_another_eye, "differ in eye"),
        (of_other_inputs, "combine runs that began with one policy"),
        (of_more_layers, "networks of other kinds"),
        (of_another_task, "is a policy of dpg and refine; expected policies of one look"),
        (of_another_learner, "networks of other kinds: dpg and ppo"),
    ],
)
def test_policies_that_differ_are_refused(other: Callable[[Path], Path], sentence, tmp_path, capsys):
    folders = [member(tmp_path / "a", 0), other(tmp_path / "b")]
    assert main(["--run", *map(str, folders), "--out", str(tmp_path / "one")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


def test_one_policy_is_none_to_combine_and_nothing_is_overwritten_unasked(tmp_path, capsys):
    folders = [str(member(tmp_path / str(seed), seed)) for seed in range(2)]
    assert main(["--run", folders[0], "--out", str(tmp_path / "one")]) == 2
    assert "two policies at least" in capsys.readouterr().err
    assert main(["--run", *folders, "--out", folders[1]]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["--run", *folders, "--out", folders[1], "--overwrite"]) == 0


def test_rewards_that_differ_are_said(tmp_path, capsys):
    folders = [str(member(tmp_path / str(seed), seed, reward=f"reward {seed}")) for seed in range(2)]
    assert main(["--run", *folders, "--out", str(tmp_path / "one")]) == 0
    assert "trained for 2 rewards; the card names that of" in capsys.readouterr().err
    card = json.loads((tmp_path / "one" / "policy.json").read_text())
    assert card["reward"] == "reward 0"


def test_training_goes_on_from_a_combined_policy(tmp_path):
    parameters = [{"name": name} for name in TUNE_PARAMETERS]
    folders = [str(member(tmp_path / str(seed), seed, parameters=parameters)) for seed in range(2)]
    assert main(["--run", *folders, "--out", str(tmp_path / "one")]) == 0
    options = {"task": "tune", "algo": "ppo", "short_side": 256, "start": str(tmp_path / "one")}
    check_start(options)
    with pytest.raises(InputError, match="--short-side 128"):
        check_start(options | {"short_side": 128})
