"""What ways of rendering cost beside each other: tools mixed in one batch, stages compiled or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.tables import markdown, number
from isp_env.frame import RawBatch
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.toolset import TOOLS, apply_tools

GROUPED, ONE_BY_ONE, ALL_ON_ALL = "once a tool", "once an image", "every tool on every image"


def mixed_tools_timings(images: Tensor, repeats: int, seed: int = 0) -> dict[str, Any]:
    """A batch in which each image takes a tool of its own, done in three ways that give the same.

    Args:
        images: ``(B, 3, H, W)`` display sRGB.
        repeats: turns; the three alternate, so that a machine that slows down slows them all.
        seed: of tools and strengths.

    Returns:
        Seconds of each way, best and all; and the cost of the other two in units of the first.
    """
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(TOOLS), (len(images),), generator=generator)
    strength = torch.rand(len(images), generator=generator) * 2.0 - 1.0
    own = range(len(images))

    def one_by_one() -> Tensor:
        parts = [apply_tools(images[i : i + 1], index[i : i + 1], strength[i : i + 1]) for i in own]
        return torch.cat(parts)

    def all_on_all() -> Tensor:
        values, result = strength.to(images), torch.empty_like(images)
        for place, tool in enumerate(TOOLS):
            mine = index == place
            result[mine] = tool.operation(images, values)[mine]
        return result.clamp_(0.0, 1.0)

    ways = {
        GROUPED: lambda: apply_tools(images, index, strength),
        ONE_BY_ONE: one_by_one,
        ALL_ON_ALL: all_on_all,
    }
    seconds = in_turns(ways, repeats, images.device)
    return {
        "images": len(images),
        "tools": len(index.unique()),
        "seconds": seconds,
        "times_grouped": {name: min(values) / min(seconds[GROUPED]) for name, values in seconds.items()},
    }


def compiled_timings(batch: RawBatch, repeats: int) -> dict[str, Any]:
    """The render as it is written and compiled: neutral, with the default parameters and with all of them.

    Parameters stand at half of their upper range.

    Returns:
        For each of the three: seconds of the first compiled call, which waits for the compiler; seconds of
        both ways, in turns; the share of the time that the compiled one takes. Empty where nothing could be
        compiled.
    """
    space = ParameterSpace()
    plain, compiled = Pipeline(space), Pipeline(space, compiled=True)
    found: dict[str, Any] = {}
    for name, moved in (
        ("neutral", ()),
        ("default parameters", TUNE_PARAMETERS),
        ("all together", space.names),
    ):
        values = _values(space, moved, batch)
        start = time.perf_counter()
        compiled(batch, values)
        first = time.perf_counter() - start
        if not compiled.compiled:
            return {}
        seconds = in_turns(
            {"written": lambda: plain(batch, values), "compiled": lambda: compiled(batch, values)},  # noqa: B023
            repeats,
            batch.image.device,
        )
        share = min(seconds["compiled"]) / min(seconds["written"])
        found[name] = {"first_call": first, "seconds": seconds, "share": share}
    return found


def in_turns(
    runs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device | str
) -> dict[str, list[float]]:
    """Seconds of several things, turn by turn, after one call of each to warm up."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def mixed_tools_table(mixed: dict[str, Any]) -> str:
    """`mixed_tools_timings` as a table."""
    rows = [
        [name, number(1000.0 * min(values) / mixed["images"], 2), number(mixed["times_grouped"][name], 2)]
        for name, values in mixed["seconds"].items()
    ]
    title = f"{mixed['images']} images, {mixed['tools']} tools among them"
    return markdown([title, "ms an image", "times the first"], rows)


def compiled_table(found: dict[str, Any], images: int) -> str:
    """`compiled_timings` as a table."""
    if not found:
        return "Nothing could be compiled on this machine."
    rows = [
        [
            name,
            *(number(1000.0 * min(row["seconds"][way]) / images, 2) for way in ("written", "compiled")),
            f"{100 * row['share']:.0f} %",
            number(row["first_call"], 1),
        ]
        for name, row in found.items()
    ]
    heads = [f"{images} frames", "as written, ms", "compiled, ms", "share", "first call, s"]
    return markdown(heads, rows)


def _values(space: ParameterSpace, moved: Sequence[str], batch: RawBatch) -> Tensor:
    chosen = torch.tensor([name in moved for name in space.names])
    half = space.to_physical(torch.full((len(batch), len(space)), 0.5))
    return torch.where(chosen, half, space.neutral_values(len(batch))).to(batch.image)
