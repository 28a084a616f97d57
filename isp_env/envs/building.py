"""From what a user gives (a folder, a name, nothing) to a core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from attiqa.errors import InputError
from attiqa.rewards.registry import build_reward
from isp_env.cache import PreviewCache
from isp_env.embedded import write_embedded_scenes
from isp_env.envs.core import AnyReward, Core
from isp_env.frame import FrameSource
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import MemoryFrames, RawFolder, load_frames

Source = FrameSource | str | Path | Sequence[str | Path] | None
RewardLike = AnyReward | str | None


def build_core(
    source: Source = None,
    reward: RewardLike = None,
    parameters: Sequence[str] | None = None,
    *,
    core: Core | None = None,
    short_side: int = 256,
    device: torch.device | str = "cpu",
    max_batch: int = 64,
    encoder: Callable[[torch.Tensor], torch.Tensor] | bool | None = None,
    compiled: bool = False,
) -> Core:
    """Build the core that the environments' arguments describe.

    Args:
        source: a `FrameSource`; raw files or folders of them, whose decoded previews are then kept in
            `isp_env.cache.default_folder`; or None for the embedded scenes, which are
            made from photographs inside installed packages.
        reward: a callable; a name that `attiqa.rewards.registry.build_reward` knows; or None for
            ``"guarded"``, the bundled model guarded against being gamed.
        parameters: names from `isp_env.parameters.PARAMETERS`; None takes `TUNE_PARAMETERS`.
        core: a core that is there already, to share its frames between environments; the other
            arguments must then be left out.
        short_side: pixels of a preview's short side.
        device: where the work is done.
        max_batch: most images in one pass.
        encoder: see `Core`.
        compiled: see `isp_env.pipeline.Pipeline`.
    """
    if core is not None:
        if source is not None or reward is not None or parameters is not None:
            raise InputError("give a core, or what to build one from (source, reward, parameters), not both.")
        return core
    space = ParameterSpace(TUNE_PARAMETERS if parameters is None else parameters)
    return Core(
        _source(source, short_side),
        space,
        Pipeline(space, compiled),
        _reward(reward, device),
        short_side=short_side,
        device=device,
        max_batch=max_batch,
        encoder=encoder,
    )


def _source(source: Source, short_side: int) -> FrameSource:
    if source is None:
        with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
            training, _ = write_embedded_scenes(Path(folder), seed=0)
            return MemoryFrames(load_frames(RawFolder(training), short_side))
    if isinstance(source, str | Path):
        source = [source]
    return RawFolder(source, cache=PreviewCache()) if isinstance(source, Sequence) else source


def _reward(reward: RewardLike, device: torch.device | str) -> AnyReward:
    return reward if callable(reward) else build_reward(reward or "guarded", device)
