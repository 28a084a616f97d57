"""Runs side by side: the same scenes, every run's reward, and judges that none of them contains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from agents import compare_runs as script
from agents import run_sheets
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.judging import Judges, judging
from agents.launch import RAWS, make_core
from agents.run_sheets import compare_runs
from attiqa.errors import InputError
from isp_env.embedded import embedded_photographs, write_scene
from isp_env.sources import RawFolder


def light(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs over three raws of two scenes, whose policies brighten, one of them more."""
    root = tmp_path_factory.mktemp("runs")
    generator = torch.Generator().manual_seed(0)
    raws = []
    for number, photograph in enumerate(list(embedded_photographs().values())[:2]):
        folder = root / "plain" / RAWS
        raws += write_scene(folder, f"scene{number}", photograph, 2 - number, (96, 128), generator=generator)
    for name, reward, exposure in (("plain", "attiqa-mini", 0.3), ("careful", "guarded", 0.1)):
        scores = judging(reward, "cpu", Judges({"light": light}, {"light": {}}))
        core = make_core(RawFolder(raws), scores, 72, "cpu")
        bench = Bench(core, scores.score, scores.judges, [raw.stem.rpartition("-")[0] for raw in raws])
        (root / name).mkdir(exist_ok=True)
        about = scores.about | {"short_side": 72}
        built = Experiment(root / name, core, bench, steps=32, num_envs=4, about=about)
        bias = torch.zeros(len(core.space))
        bias[core.space.names.index("exposure")] = exposure
        built.model.policy.action_net.bias.data.copy_(bias)  # type: ignore[operator,union-attr]
        built.model.policy.action_net.weight.data.zero_()  # type: ignore[operator,union-attr]
        built.conclude({"policy": built.policy()}, 0.0)
    return [root / "plain", root / "careful"]


def test_each_policy_is_paid_by_every_reward_and_drawn(runs, tmp_path, monkeypatch, capsys):
    found = {"light": light, "inside": light}
    monkeypatch.setattr(
        run_sheets,
        "find_judges",
        lambda reward, *_: Judges({k: v for k, v in found.items() if k != "inside" or reward == "guarded"}),
    )
    sheet, record = tmp_path / "sheet.jpg", tmp_path / "tables.json"
    assert script.main(["--run", *map(str, runs), "--out", str(sheet), "--json", str(record)]) == 0
    assert "under the reward of careful:" in capsys.readouterr().out
    written = json.loads(record.read_text())
    tables = written["tables"]
    assert list(tables) == ["plain", "careful"]
    for rows in tables.values():
        assert list(rows) == ["neutral", "plain", "careful"]
        assert set(rows["plain"]["judges"]) == {"light"}  # the other one is in a reward
        assert rows["plain"]["judges"]["light"]["gain"] > rows["careful"]["judges"]["light"]["gain"] > 0
    assert tables["plain"]["plain"]["score"] == pytest.approx(tables["careful"]["plain"]["score"], abs=1e-5)
    assert tables["plain"]["plain"]["reward"] != tables["careful"]["plain"]["reward"]
    assert len(written["median_judge"]["plain"]) == 3
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG"
        assert picture.width > 1000


def test_runs_that_cannot_be_compared_are_refused_in_a_sentence(runs, tmp_path, capsys):
    with pytest.raises(InputError, match="told apart by their folder's name"):
        compare_runs([runs[0], runs[0]])
    with pytest.raises(InputError, match="did not make its held-out raws itself"):
        compare_runs(runs[1:])
    assert script.main(["--run", str(tmp_path)]) == 2
    assert "card of a trained policy" in capsys.readouterr().err
