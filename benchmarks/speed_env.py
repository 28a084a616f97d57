"""How fast environments step: against the reward alone, without reward, by operator; and decoding."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rawpy
import torch

from attiqa.errors import InputError
from attiqa.options import option
from attiqa.rewards.registry import AnyReward, build_reward
from benchmarks.speed_options import Findings, SpeedOptions, Subject
from benchmarks.speed_renders import (
    compiled_table,
    compiled_timings,
    kornia_table,
    kornia_timings,
    mixed_tools_table,
    mixed_tools_timings,
)
from benchmarks.tables import markdown, number
from benchmarks.timing import Figure, figures_beside, in_turns, measure
from isp_env.cache import PreviewCache
from isp_env.embedded import write_embedded_scenes
from isp_env.envs import Core, TuneVectorEnv
from isp_env.frame import RawBatch
from isp_env.parameters import PARAMETERS, TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import MemoryFrames, RawFolder, load_frames

NEUTRAL = "neutral render"
POINTWISE = (
    "white_balance",
    "exposure",
    "tone_map",
    "channel_curves",
    "tone_curve",
    "contrast",
    "color",
    "gamma",
)

_COPIED_VALUES = 2**26  # 256 MB of float32


@dataclass(frozen=True, kw_only=True)
class EnvSpeedOptions(SpeedOptions):
    """Flags of ``speed.py env``."""

    raws: Path | None = option(None, help="folder of raws (default: the embedded scenes)", metavar="DIR")
    reward: str = option("attiqa-mini", help="a reward's name, or none to leave it out")
    num_envs: int = option(32, help="slots of the batch")
    short_side: int = option(256, help="pixels of a preview's short side")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_envs < 1:
            raise InputError(f"--num-envs is 1 or more; it is {self.num_envs}.")
        if self.quick:
            object.__setattr__(self, "num_envs", min(self.num_envs, 8))


def measure_env(options: EnvSpeedOptions, device: str) -> Findings:
    """Steps against the bare reward and render, operators against bandwidth, decoding against LibRaw."""
    reward = None if options.reward == "none" else build_reward(options.reward, device)
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        inputs = [options.raws] if options.raws else write_embedded_scenes(folder, options.seed)[0]
        raws = RawFolder(inputs)
        frames = MemoryFrames(load_frames(raws, options.short_side))
        decoding = decoding_figures(raws, Path(folder) / "previews", options)
    steps = step_figures(frames, reward, options, device)
    batch = RawBatch.stack([frames.frame(0, options.short_side)] * (4 if options.quick else 16)).to(device)
    operators = operator_timings(batch, options.repeats, device)
    compiled = compiled_timings(batch, options.repeats, _kornia(batch))
    renders = Pipeline().neutral(batch).repeat(2, 1, 1, 1)
    mixed = mixed_tools_timings(renders, options.repeats, options.seed)
    kornia = kornia_timings(renders[:4], options.repeats)
    remarks = [
        *_step_remark(steps),
        _operator_table(operators, len(batch)),
        _bandwidth_remark(operators, batch, copy_bandwidth(options.repeats, device)),
        compiled_table(compiled, len(batch)),
        kornia_table(kornia, len(renders[:4])),
        mixed_tools_table(mixed),
    ]
    details = {
        "operators": operators,
        "compiled": compiled,
        "mixed_tools": mixed,
        "beside_kornia": kornia,
    }
    return Findings([*steps, *decoding], remarks, details)


def step_figures(
    source: MemoryFrames, reward: AnyReward | None, options: EnvSpeedOptions, device: str
) -> list[Figure]:
    """A step of ``Tune-v0``: with the reward beside its bare forward, without it beside the bare render."""
    bare = _environment(source, _no_reward, options, device)
    actions = torch.rand(bare.action_space.shape or (), generator=torch.Generator().manual_seed(options.seed))
    actions = actions.to(device) * 2.0 - 1.0
    core = bare.task.core
    groups = core.table.groups(bare.task.frames)
    values = core.space.to_physical(actions)
    shared: dict[str, Any] = {"unit": "images", "items": options.num_envs, "repeats": options.repeats}
    figures = figures_beside(
        {f"a step without reward, {options.num_envs} at once": lambda: bare.step_tensors(actions)},
        "the render alone",
        lambda: [core.pipeline(group.raw, values[group.members]) for group in groups],
        device=device,
        **shared,
    )
    if reward is None:
        return figures
    rewarded = _environment(source, reward, options, device)
    scored = rewarded.task.core
    renders = [(scored.pipeline(group.raw, values[group.members]), group) for group in groups]
    with_reward = figures_beside(
        {f"a step with {options.reward}, {options.num_envs} at once": lambda: rewarded.step_tensors(actions)},
        "the reward's bare forward",
        lambda: [scored.score(images, group) for images, group in renders],
        device=device,
        **shared,
    )
    return [*with_reward, *figures]


def decoding_figures(raws: RawFolder, previews: Path, options: EnvSpeedOptions) -> list[Figure]:
    """Reading previews from raws, beside LibRaw, and from the cache, beside reading its bytes."""
    cached = RawFolder(raws.paths, cache=PreviewCache(previews))
    load_frames(cached, options.short_side)
    stored = [path for path in previews.rglob("*") if path.is_file()]
    shared: dict[str, Any] = {"unit": "files", "items": len(raws.names), "repeats": options.repeats}
    load = functools.partial(load_frames, short_side=options.short_side)
    return [
        *figures_beside(
            {"decode raws": lambda: load(raws)}, "LibRaw", lambda: _half_sizes(raws.paths), **shared
        ),
        *figures_beside(
            {"previews from the cache": lambda: load(cached)},
            "reading its bytes",
            lambda: [path.read_bytes() for path in stored],
            **shared,
        ),
    ]


def operator_timings(batch: RawBatch, repeats: int, device: str) -> dict[str, Any]:
    """Each operator's cost over the neutral render, several together, and the yardstick of kornia's three.

    Parameters stand at half of their upper range; a parameter that only shapes another one's effect (a
    radius, a filter) costs nothing by itself. Each takes turns with the neutral render, and its cost is the
    median over the turns.
    """
    space = ParameterSpace()
    pipeline = Pipeline(space)
    half = space.to_physical(torch.full((len(batch), len(space)), 0.5)).to(device)
    neutral = space.neutral_values(len(batch)).to(device)

    def render(names: Sequence[str]) -> Callable[[], torch.Tensor]:
        chosen = torch.tensor([name in names for name in space.names], device=device)
        values = torch.where(chosen, half, neutral)
        return lambda: pipeline(batch, values)

    operators = dict.fromkeys(row.operator for row in PARAMETERS)
    names = {op: [row.name for row in PARAMETERS if row.operator == op] for op in operators}
    together = [name for operator in POINTWISE for name in names[operator]]
    tables = {}
    for name, own in (names | {"pointwise together": together}).items():
        # right after a neutral render: what runs before leaves its mark on caches and allocator
        timings = in_turns({NEUTRAL: render(()), name: render(own)}, repeats, device)
        tables[name] = timings[name].record(len(batch))
        cost = np.array(timings[name].seconds) - np.array(timings[NEUTRAL].seconds)
        tables[name]["milliseconds_an_item"] = 1000.0 * float(np.median(cost)) / len(batch)
    whole = {
        NEUTRAL: render(()),
        "default parameters": render(TUNE_PARAMETERS),
        "all together": render(space.names),
        "kornia's three": _kornia(batch),
    }
    return tables | {
        name: timing.record(len(batch)) for name, timing in in_turns(whole, repeats, device).items()
    }


def copy_bandwidth(repeats: int, device: str) -> float:
    """Bytes a second that a copy of an array far larger than the caches reads and writes."""
    source = torch.zeros(_COPIED_VALUES, device=device)
    target = torch.empty_like(source)
    return (
        2
        * source.numel()
        * source.element_size()
        / measure(lambda: target.copy_(source), repeats, device).best
    )


def _kornia(batch: RawBatch) -> Callable[[], torch.Tensor]:
    from kornia.enhance import equalize_clahe, sharpness
    from kornia.filters import bilateral_blur

    images = batch.image.clamp(0.0, 1.0)
    return lambda: sharpness(equalize_clahe(bilateral_blur(images, (5, 5), 0.1, (1.5, 1.5))), 0.5)


def _half_sizes(paths: Sequence[Path]) -> None:
    """LibRaw's own render at half size, which is what previews of this size are made from."""
    for path in paths:
        with contextlib.suppress(rawpy.LibRawError), rawpy.imread(str(path)) as raw:  # or a photograph
            raw.postprocess(half_size=True, use_camera_wb=True, no_auto_bright=True, output_bps=16)


def _environment(source: MemoryFrames, reward: Any, options: EnvSpeedOptions, device: str) -> TuneVectorEnv:
    space = ParameterSpace(TUNE_PARAMETERS)
    core = Core(
        source,
        space,
        Pipeline(space),
        reward,
        short_side=options.short_side,
        device=device,
        encoder=False,
    )
    env = TuneVectorEnv(options.num_envs, core=core)
    env.reset_tensors(seed=options.seed)
    return env


def _no_reward(images: torch.Tensor) -> torch.Tensor:
    return images.new_zeros(len(images))


def _step_remark(steps: Sequence[Figure]) -> list[str]:
    if len(steps) < 2:
        return []
    ratio = float(np.median(1 / steps[0].shares))
    return [f"A step with its reward takes {ratio:.2f} times the reward's bare forward."]


def _operator_table(operators: dict[str, Any], count: int) -> str:
    rows = [[name, _milliseconds(row), _spread(row)] for name, row in operators.items()]
    table = markdown([f"{count} frames; single operators over neutral", "ms an image", "spread"], rows)
    share = operators["all together"]["best"] / operators["kornia's three"]["best"]
    return f"{table}\n\nAll operators together take {100 * share:.0f} % of kornia's three."


def _bandwidth_remark(operators: dict[str, Any], batch: RawBatch, bandwidth: float) -> str:
    """What the pointwise chain makes of the memory's bandwidth, if it read and wrote each sample once."""
    seconds = operators["pointwise together"]["milliseconds_an_item"] * len(batch) / 1000
    moved = 2 * batch.image.numel() * batch.image.element_size() / max(seconds, 1e-9)
    return (
        f"A copy moves {bandwidth / 1e9:.1f} GB/s, read and written. The pointwise operators together, over "
        f"the neutral render, run at {moved / 1e9:.1f} GB/s, {moved / bandwidth:.0%} of it."
    )


def _milliseconds(row: dict[str, Any]) -> str:
    return number(row["milliseconds_an_item"], 2)


def _spread(row: dict[str, Any]) -> str:
    return f"{100 * row['spread']:.0f} %"


SUBJECT = Subject("env", EnvSpeedOptions, measure_env, "steps of Tune-v0, operators, decoding of previews")
