"""Portable policies: one network that sets what the policy sets in its environment, with a manifest."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import export_policy
from agents.enhancer import Enhancer
from agents.judging import Judging
from agents.playing import make_envs
from agents.policy import build_policy
from agents.policy_file import StoredPolicy, describe_network, load_policy, save_policy
from agents.portable import PortablePolicy, check_parity
from agents.portable_files import FILES, TOLERANCE, describe, missing_for_onnx, write_portable
from attiqa.errors import InputError
from attiqa.model import QualityModel
from isp_env.envs import Core
from isp_env.frame import RawBatch
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from tests.fakes import RandomFrames
from tests.tiny import tiny_model

SIZE = (64, 90)
SPACE = ParameterSpace(TUNE_PARAMETERS)

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="extra `onnx` is not installed",
)


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    return tiny_model(tmp_path_factory.mktemp("eye"))


@pytest.fixture(scope="module")
def scores(eye: QualityModel) -> Judging:
    return Judging(eye, eye.features, eye.score, {}, {"eye": {"name": "tiny", "digest": eye.digest}})


def policy(
    folder: Path,
    scores: Judging,
    task: str = "tune",
    algo: str = "ppo",
    begun: bool = False,
    slopes: bool = False,
) -> StoredPolicy:
    """One that answers differently to every picture, as training would have it."""
    frames = RandomFrames([SIZE])
    core = Core(frames, SPACE, Pipeline(SPACE), scores.score, short_side=64, encoder=scores.encoder)
    env = make_envs(task, core, 1, algo, slopes)
    torch.manual_seed(1)
    network = build_policy(algo, env.observation_space, env.action_space, [16], -1.0, begun=begun)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    about = {"task": task, "parameters": SPACE.describe(), "short_side": 64, "eye": scores.about["eye"]}
    described = describe_network(algo, env.observation_space, env.action_space, [16], -1.0, begun)
    save_policy(folder, network, described, about)
    return load_policy(folder)


@pytest.mark.parametrize(
    "task, algo, begun",
    [
        ("tune", "dpg", False),
        ("tune", "ppo", False),
        ("tune", "ppo", True),
        ("refine", "a2c", False),
        ("tune", "sac", False),
        ("refine", "td3", False),
        ("refine", "dpg", True),
    ],
)
def test_the_network_sets_what_the_policy_sets_in_its_environment(tmp_path, scores, eye, task, algo, begun):
    stored = policy(tmp_path, scores, task, algo, begun)
    network = PortablePolicy(stored, eye, SIZE).eval()
    with torch.no_grad():
        parity = check_parity(
            lambda inputs: network(*(inputs[name] for name in network.inputs)), network, stored, scores
        )
        answers = network(torch.rand(4, 3, *SIZE))[0]
    assert parity.pictures >= 3
    assert parity.largest_difference < 1e-4
    assert (answers.std(dim=0) > 0).any()


@pytest.mark.parametrize("task", ["tune", "refine"])
def test_a_network_without_slopes_is_told_their_mean(tmp_path, scores, eye, task):
    stored = policy(tmp_path, scores, task, "dpg", slopes=True)
    measured = torch.linspace(0.1, 1.0, len(SPACE))
    stored.policy.actor.features_extractor.mean_of("slope").copy_(measured)
    network = PortablePolicy(stored, eye, SIZE).eval()
    assert "slope" not in network.inputs
    torch.testing.assert_close(network.usual_slope, measured)
    manifest = write_portable(tmp_path / "out", network, stored, scores, ["torchscript"])
    assert "mean over the training frames" in manifest["left_out"]
    assert manifest["files"]["policy.torchscript"]["parity"]["largest_difference"] < 1e-4
    # they do count: told anything else, the policy answers otherwise
    network.usual_slope += 1.0
    run = torch.jit.load(str(tmp_path / "out" / "policy.torchscript"))
    with torch.no_grad():
        parity = check_parity(
            lambda inputs: run(*(inputs[name] for name in network.inputs)), network, stored, scores
        )
    assert parity.largest_difference > TOLERANCE
    plain = policy(tmp_path / "plain", scores)
    assert "left_out" not in describe(PortablePolicy(plain, eye, SIZE), plain)


def test_a_difference_is_found(tmp_path, scores, eye):
    stored = policy(tmp_path, scores)
    network = PortablePolicy(stored, eye, SIZE).eval()
    with torch.no_grad():
        parity = check_parity(lambda inputs: network(inputs["image"].flip(1)), network, stored, scores)
    assert parity.largest_difference > TOLERANCE


def test_torchscript_runs_where_this_package_is_not(tmp_path, scores, eye):
    stored = policy(tmp_path, scores, "refine")
    network = PortablePolicy(stored, eye, SIZE).eval()
    manifest = write_portable(tmp_path / "out", network, stored, scores, ["torchscript"])
    assert manifest["files"]["policy.torchscript"]["parity"]["largest_difference"] < 1e-4
    program = (
        "import json, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import torch\n"
        "manifest = json.load(open('manifest.json'))\n"
        "shapes = [[5, *entry['shape'][1:]] for entry in manifest['inputs']]\n"
        "results = torch.jit.load('policy.torchscript')(*map(torch.rand, shapes))\n"
        "print([list(result.shape) for result in results], 'attiqa' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"{[[5, len(SPACE)]] * 3} False", done.stderr


@needs_onnx
def test_onnx_does_what_the_policy_does_for_any_batch(tmp_path, scores, eye):
    import onnxruntime

    stored = policy(tmp_path, scores, "refine", "dpg", begun=True)
    network = PortablePolicy(stored, eye, SIZE).eval()
    manifest = write_portable(tmp_path / "out", network, stored, scores, ["onnx"])
    assert manifest["files"]["policy.onnx"]["parity"]["largest_difference"] < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "policy.onnx"))
    assert [entry.name for entry in session.get_inputs()] == [entry["name"] for entry in manifest["inputs"]]
    inputs = {entry["name"]: torch.rand(3, *entry["shape"][1:]).numpy() for entry in manifest["inputs"]}
    together = session.run(None, inputs)
    alone = session.run(None, {name: values[1:2] for name, values in inputs.items()})
    for values, own in zip(together, alone, strict=True):
        torch.testing.assert_close(torch.from_numpy(values[1:2]), torch.from_numpy(own), atol=1e-4, rtol=1e-4)


def test_a_file_that_differs_is_not_written(tmp_path, scores, eye):
    stored, other = policy(tmp_path / "a", scores), policy(tmp_path / "b", scores, algo="sac")
    network = PortablePolicy(other, eye, SIZE).eval()
    with pytest.raises(InputError, match="differs from the policy by"):
        write_portable(tmp_path / "out", network, stored, scores, ["torchscript"])
    assert list((tmp_path / "out").iterdir()) == []


def test_the_manifest_tells_inputs_outputs_and_units(tmp_path, scores, eye):
    stored = policy(tmp_path, scores, "refine")
    manifest = describe(PortablePolicy(stored, eye, SIZE), stored)
    json.dumps(manifest, allow_nan=False)
    assert [entry["name"] for entry in manifest["inputs"]] == ["image", "setting", "progress", "change"]
    assert manifest["inputs"][0]["shape"] == ["batch", 3, 64, 90]
    assert manifest["parameters"][SPACE.names.index("exposure")]["unit"] == "EV"
    assert manifest["steps"] == 5


def test_a_policy_of_tools_is_refused(tmp_path, scores, eye):
    stored = policy(tmp_path, scores)
    stored.card["task"] = "tools"
    with pytest.raises(InputError, match="chooses one tool after another"):
        PortablePolicy(stored, eye, SIZE)


def test_the_drawback_beside_the_network_does_what_exports_do(tmp_path, scores, eye):
    stored = policy(tmp_path / "run", scores)
    with torch.no_grad():
        for name in ("exposure", "temperature"):
            stored.policy.action_net.bias[SPACE.names.index(name)] += 0.6  # type: ignore[index,union-attr,operator]
    network = PortablePolicy(stored, eye, SIZE).eval()
    write_portable(tmp_path / "out", network, stored, scores, ["torchscript"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    alone = runpy.run_path(str(tmp_path / "out" / manifest["draw_back"]["reference"]))
    pipeline, enhancer, shares = Pipeline(SPACE), Enhancer(stored, scores), []
    for number, (light, is_grey) in enumerate([(0.2, False), (0.6, False), (1.0, False), (0.6, True)]):
        frame = RandomFrames([SIZE] * 4).frame(number, 64)
        frame = dataclasses.replace(frame, image=(frame.image * light / frame.image.max()).contiguous())
        if is_grey:
            image = frame.image[1:2].expand(3, -1, -1).contiguous()
            frame = dataclasses.replace(
                frame, image=image, white_balance=torch.ones(3), color_matrix=torch.eye(3)
            )
        batch = RawBatch.stack([frame])

        def render(values: np.ndarray, batch: RawBatch = batch) -> np.ndarray:
            return pipeline(batch, torch.as_tensor(values, dtype=torch.float32)[None])[0].numpy()

        with torch.no_grad():
            values = network(pipeline.neutral(batch))[0][0].numpy()
        found, share = alone["draw_back"](values, manifest, render)
        expected = enhancer.look([frame])[0]
        assert share == expected.share
        wanted = [expected.answer.record(0)["parameters"][name] for name in SPACE.names]
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        assert (found[SPACE.names.index("temperature")] == 0) == (is_grey or share == 0)
        shares.append(share)
    assert min(shares) < 1.0


def test_the_command_refuses_sizes_and_runs_that_do_not_fit(capsys, tmp_path):
    given = ["--run", str(tmp_path), "--out", str(tmp_path / "out")]
    assert export_policy.main([*given, "--size", "300"]) == 2
    assert "--size is WIDTHxHEIGHT" in capsys.readouterr().err
    assert export_policy.main(given) == 2
    assert "card of a trained policy" in capsys.readouterr().err


def test_without_its_packages_onnx_says_what_to_install():
    sentence = missing_for_onnx()
    assert set(FILES) == {"onnx", "torchscript"}
    assert sentence is None or "pip install '.[onnx]'" in sentence
