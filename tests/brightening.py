"""A policy that brightens by half a stop whatever it sees, for tests of what is done with answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from agents.enhancer import Enhancer
from agents.evaluation import Bench
from agents.experiment import Experiment
from agents.judging import Judging
from agents.policy_file import load_policy
from attiqa.model import load
from isp_env.embedded import write_scene
from isp_env.envs import Core
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from tests.fakes import RandomFrames


def scores_by(weights: Path) -> Judging:
    """A small network as reward, eye and score."""
    model = load(weights)
    eye = {"name": "tiny", "digest": model.digest}
    return Judging(model, model.features, model.score, {}, {"eye": eye})


def brightening_run(folder: Path, scores: Judging) -> Path:
    """The run folder of the policy."""
    space = ParameterSpace(TUNE_PARAMETERS)
    frames = RandomFrames([(72, 80)] * 4)
    core = Core(frames, space, Pipeline(space), scores.score, short_side=72, encoder=scores.encoder)
    about = scores.about | {"short_side": 72}
    built = Experiment(folder, core, Bench(core, scores.score), steps=64, num_envs=16, about=about)
    bias = torch.zeros(len(space))
    bias[space.names.index("exposure")] = 0.25
    built.model.policy.action_net.bias.data.copy_(bias)  # type: ignore[operator,union-attr]
    built.conclude({"policy": built.policy()}, 0.0)
    return folder


def brightener(run: Path, weights: Path) -> Enhancer:
    """The policy at work."""
    return Enhancer(load_policy(run), scores_by(weights))


def two_raws(folder: Path) -> list[Path]:
    """Raws of one photograph, 192 pixels high and 256 wide."""
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    photograph = folder / "photo.png"
    Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC).save(photograph)
    generator = torch.Generator().manual_seed(0)
    return write_scene(folder / "dng", "scene", photograph, 2, (192, 256), generator=generator)
