"""What ways of rendering cost beside each other: tools mixed in one batch, stages compiled or not."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables import markdown, number
from benchmarks.timing import Timing, in_turns
from isp_env.frame import RawBatch
from isp_env.operators import curves
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
        Timings of each way, and the cost of each in units of the first.
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
    timings = in_turns(ways, repeats, images.device)
    return {
        "images": len(images),
        "tools": len(index.unique()),
        "timings": _records(timings, len(images)),
        "times_grouped": {name: _times(timings, name, GROUPED) for name in ways},
    }


def compiled_timings(
    batch: RawBatch, repeats: int, yardstick: Callable[[], Any] | None = None
) -> dict[str, Any]:
    """The render as it is written and compiled: neutral, with the default parameters and with all of them.

    Parameters stand at half of their upper range.

    Args:
        batch: frames of one size.
        repeats: turns.
        yardstick: takes turns with them, to be compared with.

    Returns:
        For each of the three: seconds of the first compiled call, which waits for the compiler; timings of
        both ways; the share of the time that the compiled one takes, and of the yardstick's. Empty where
        nothing could be compiled.
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
        ways: dict[str, Callable[[], Any]] = {
            "written": functools.partial(plain, batch, values),
            "compiled": functools.partial(compiled, batch, values),
        }
        if yardstick is not None:
            ways["yardstick"] = yardstick
        timings = in_turns(ways, repeats, batch.image.device)
        shares = {way: _times(timings, "compiled", way) for way in ways}
        found[name] = {"first_call": first, "timings": _records(timings, len(batch)), "shares": shares}
    return found


def kornia_timings(images: Tensor, repeats: int) -> dict[str, Any]:
    """Our filters and colour operations beside kornia's of the same kind, in turns.

    Args:
        images: ``(B, 3, H, W)`` display sRGB.
        repeats: turns.

    Returns:
        By name: timings of both, and the time that kornia takes in units of ours.
    """
    from kornia import color, enhance, filters

    ones = images.new_ones(len(images))
    tools = {tool.name: tool.operation for tool in TOOLS}
    space, sigma = (1.5, 1.5), (1.5, 1.5)
    theirs: dict[str, Callable[[], Any]] = {
        "clahe": lambda: enhance.equalize_clahe(images),
        "bilateral": lambda: filters.bilateral_blur(images, (5, 5), 0.1, space),
        "median": lambda: filters.median_blur(images, (3, 3)),
        "box": lambda: filters.box_blur(images, (5, 5)),
        "gaussian": lambda: filters.gaussian_blur2d(images, (11, 11), sigma),
        "guided": lambda: filters.guided_blur(images, images, 7, 0.004),
        "sharpen": lambda: filters.unsharp_mask(images, (17, 17), (1.0, 1.0)),
        "saturation": lambda: enhance.adjust_saturation(images, 1.4),
        "hue": lambda: enhance.adjust_hue(images, 0.1),
        "gamma": lambda: enhance.adjust_gamma(images, 0.8),
        "transfer function": lambda: color.linear_rgb_to_rgb(images),
    }
    ours: dict[str, Callable[[], Any]] = {
        name: functools.partial(tools[name], images, ones) for name in theirs if name in tools
    }
    ours["transfer function"] = lambda: curves.encode(images)
    found = {}
    for name, kornia in theirs.items():
        timings = in_turns({"ours": ours[name], "kornia": kornia}, repeats, images.device)
        times = _times(timings, "kornia", "ours")
        found[name] = {"timings": _records(timings, len(images)), "kornia_over_ours": times}
    return found


def _times(timings: Mapping[str, Timing], name: str, unit: str) -> float:
    """What `name` costs in units of `unit`: the median over the turns."""
    return float(np.median(np.array(timings[name].seconds) / np.array(timings[unit].seconds)))


def _records(timings: Mapping[str, Timing], items: int) -> dict[str, Any]:
    return {name: timing.record(items) for name, timing in timings.items()}


def mixed_tools_table(mixed: dict[str, Any]) -> str:
    """`mixed_tools_timings` as a table."""
    rows = [
        [name, _milliseconds(row), number(mixed["times_grouped"][name], 2)]
        for name, row in mixed["timings"].items()
    ]
    title = f"{mixed['images']} images, {mixed['tools']} tools among them"
    return markdown([title, "ms an image", "times the first"], rows)


def kornia_table(found: dict[str, Any], images: int) -> str:
    """`kornia_timings` as a table."""
    rows = [
        [
            name,
            *(_milliseconds(row["timings"][whose]) for whose in ("ours", "kornia")),
            number(row["kornia_over_ours"], 1),
        ]
        for name, row in found.items()
    ]
    return markdown([f"{images} images, ms an image", "ours", "kornia", "times ours"], rows)


def compiled_table(found: dict[str, Any], images: int) -> str:
    """`compiled_timings` as a table."""
    if not found:
        return "Nothing could be compiled on this machine."
    rows = [
        [
            name,
            *(_milliseconds(row["timings"][way]) for way in ("written", "compiled")),
            f"{100 * row['shares']['written']:.0f} %",
            f"{100 * row['shares']['yardstick']:.0f} %" if "yardstick" in row["shares"] else "",
            number(row["first_call"], 1),
        ]
        for name, row in found.items()
    ]
    heads = [
        f"{images} frames, ms an image",
        "as written",
        "compiled",
        "share",
        "of kornia's three",
        "first call, s",
    ]
    return markdown(heads, rows)


def _milliseconds(row: dict[str, Any]) -> str:
    return number(row["milliseconds_an_item"], 2)


def _values(space: ParameterSpace, moved: Sequence[str], batch: RawBatch) -> Tensor:
    chosen = torch.tensor([name in moved for name in space.names])
    half = space.to_physical(torch.full((len(batch), len(space)), 0.5))
    return torch.where(chosen, half, space.neutral_values(len(batch))).to(batch.image)
