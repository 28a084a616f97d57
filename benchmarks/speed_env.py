"""How fast environments step: against the reward alone, without reward, by operator; and decoding."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attiqa.errors import InputError
from attiqa.options import as_record, option, parse
from attiqa.rewards.registry import AnyReward, build_reward
from benchmarks.records import write_record
from benchmarks.tables import markdown, number
from benchmarks.timing import Timing, measure
from isp_env.cache import PreviewCache
from isp_env.embedded import write_embedded_scenes
from isp_env.envs import Core, TuneVectorEnv
from isp_env.frame import RawBatch
from isp_env.parameters import PARAMETERS, TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import MemoryFrames, RawFolder, load_frames


@dataclass(frozen=True, kw_only=True)
class EnvSpeedOptions:
    """Options of the environments' speed benchmark."""

    raws: Path | None = option(None, help="folder of raws (default: the embedded scenes)", metavar="DIR")
    reward: str = option("attiqa-mini", help="a reward's name, or none to leave it out")
    num_envs: int = option(32, help="slots of the batch")
    short_side: int = option(256, help="pixels of a preview's short side")
    device: str = option("cpu", help="where it runs: cpu, cuda, cuda:1")
    threads: int = option(torch.get_num_threads(), help="threads of torch on the CPU")
    repeats: int = option(5, help="repeats of each measurement; the best is shown, the spread recorded")
    seed: int = option(0, help="of frames and actions")
    out: Path = option(Path("runs/benchmarks/speed_env"), help="folder of the record", metavar="DIR")

    def __post_init__(self) -> None:
        for name in ("num_envs", "threads", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is 1 or more; it is {getattr(self, name)}.")


def run(argv: Sequence[str]) -> int:
    """``speed.py env``: measure, print tables, write the record."""
    options = parse(EnvSpeedOptions, argv, prog="speed.py env", description=__doc__ or "")
    torch.set_num_threads(options.threads)
    reward = None if options.reward == "none" else build_reward(options.reward, options.device)
    source, decoding = _decoded(options)
    steps = step_timings(source, reward, options)
    batch = RawBatch.stack([source.frame(0, options.short_side)] * 16).to(options.device)
    operators = operator_timings(batch, options.repeats, options.device)
    content = {
        "options": as_record(options),
        "steps": steps,
        "operators": operators,
        "decoding": decoding,
    }
    path = write_record(options.out, "speed_env", ["benchmarks/speed.py", "env", *argv], content)
    print("\n\n".join([_step_table(steps, options), _operator_table(operators), _decoding_table(decoding)]))
    print(f"\nrecord: {path}")
    return 0


def step_timings(source: MemoryFrames, reward: AnyReward | None, options: EnvSpeedOptions) -> dict[str, Any]:
    """A step of ``Tune-v0`` without reward, with it, and the reward's bare forward on the same renders."""
    bare = _environment(source, _no_reward, options)
    actions = torch.rand(bare.action_space.shape or (), generator=torch.Generator().manual_seed(options.seed))
    actions = actions.to(options.device) * 2.0 - 1.0
    result = {"without_reward": _timed_step(bare, actions, options)}
    if reward is None:
        return result
    rewarded = _environment(source, reward, options)
    result["with_reward"] = _timed_step(rewarded, actions, options)
    core = rewarded.task.core
    groups = core.table.groups(rewarded.task.frames)
    values = core.space.to_physical(actions)
    renders = [(core.pipeline(group.raw, values[group.members]), group) for group in groups]
    forward = measure(
        lambda: [core.score(images, group) for images, group in renders], options.repeats, options.device
    )
    result["reward_alone"] = forward.record(options.num_envs)
    result["step_over_reward"] = result["with_reward"]["best"] / forward.best
    return result


def operator_timings(batch: RawBatch, repeats: int, device: str) -> dict[str, Any]:
    """Each operator's cost over the neutral render, all together, and the yardstick of kornia's three.

    Parameters stand at half of their upper range; a parameter that only shapes another one's effect (a
    radius, a filter) costs nothing by itself.
    """
    space = ParameterSpace()
    pipeline = Pipeline(space)
    half = space.to_physical(torch.full((len(batch), len(space)), 0.5)).to(device)
    neutral_values = space.neutral_values(len(batch)).to(device)

    def timed(names: Sequence[str]) -> Timing:
        chosen = torch.tensor([name in names for name in space.names], device=device)
        values = torch.where(chosen, half, neutral_values)
        return measure(lambda: pipeline(batch, values), repeats, device)

    neutral = timed(())
    tables = {"neutral render": neutral.record(len(batch))}
    for operator in dict.fromkeys(row.operator for row in PARAMETERS):
        names = [row.name for row in PARAMETERS if row.operator == operator]
        timing = timed(names)
        tables[operator] = timing.record(len(batch))
        tables[operator]["milliseconds_an_item"] -= 1000.0 * neutral.best / len(batch)
    tables["default parameters"] = timed(TUNE_PARAMETERS).record(len(batch))
    tables["all together"] = timed(space.names).record(len(batch))
    tables["kornia's three"] = measure(_kornia(batch), repeats, device).record(len(batch))
    return tables


def _kornia(batch: RawBatch) -> Callable[[], torch.Tensor]:
    from kornia.enhance import equalize_clahe, sharpness
    from kornia.filters import bilateral_blur

    images = batch.image.clamp(0.0, 1.0)
    return lambda: sharpness(equalize_clahe(bilateral_blur(images, (5, 5), 0.1, (1.5, 1.5))), 0.5)


def _decoded(options: EnvSpeedOptions) -> tuple[MemoryFrames, dict[str, Any]]:
    """The frames in memory, and how fast they were decoded, from the files and from the preview cache."""
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        inputs = [options.raws] if options.raws else write_embedded_scenes(folder, options.seed)[0]
        caches = {"cold": None, "cached": PreviewCache(Path(folder) / "previews")}
        rates: dict[str, Any] = {}
        for name, cache in caches.items():
            source = RawFolder(inputs, cache=cache)
            load = functools.partial(load_frames, source, options.short_side)
            timing = measure(load, options.repeats)
            rates[name] = {
                **timing.record(len(source.names)),
                "files_a_second": len(source.names) / timing.best,
            }
        frames = load()
    return MemoryFrames(frames), {"files": len(frames), **rates}


def _environment(source: MemoryFrames, reward: Any, options: EnvSpeedOptions) -> TuneVectorEnv:
    space = ParameterSpace(TUNE_PARAMETERS)
    core = Core(
        source,
        space,
        Pipeline(space),
        reward,
        short_side=options.short_side,
        device=options.device,
        encoder=False,
    )
    env = TuneVectorEnv(options.num_envs, core=core)
    env.reset_tensors(seed=options.seed)
    return env


def _timed_step(env: TuneVectorEnv, actions: torch.Tensor, options: EnvSpeedOptions) -> dict[str, Any]:
    timing = measure(lambda: env.step_tensors(actions), options.repeats, options.device)
    return {**timing.record(env.num_envs), "steps_a_second": env.num_envs / timing.best}


def _no_reward(images: torch.Tensor) -> torch.Tensor:
    return images.new_zeros(len(images))


def _step_table(steps: dict[str, Any], options: EnvSpeedOptions) -> str:
    rows = [
        [name.replace("_", " "), number(options.num_envs / row["best"], 1), _milliseconds(row), _spread(row)]
        for name, row in steps.items()
        if isinstance(row, dict)
    ]
    table = markdown([f"Tune-v0, batch {options.num_envs}", "images/s", "ms an image", "spread"], rows)
    ratio = steps.get("step_over_reward")
    return table if ratio is None else f"{table}\n\nA step takes {ratio:.2f} times the reward alone."


def _operator_table(operators: dict[str, Any]) -> str:
    rows = [[name, _milliseconds(row), _spread(row)] for name, row in operators.items()]
    share = operators["all together"]["best"] / operators["kornia's three"]["best"]
    table = markdown(["16 frames; operators over neutral", "ms an image", "spread"], rows)
    return f"{table}\n\nAll operators together take {100 * share:.0f} % of kornia's three."


def _decoding_table(decoding: dict[str, Any]) -> str:
    rows = [
        [name, number(row["files_a_second"], 1), _spread(row)]
        for name, row in decoding.items()
        if isinstance(row, dict)
    ]
    return markdown([f"{decoding['files']} files", "decoded/s", "spread"], rows)


def _milliseconds(row: dict[str, Any]) -> str:
    return number(row["milliseconds_an_item"], 2)


def _spread(row: dict[str, Any]) -> str:
    return f"{100 * row['spread']:.0f} %"
