"""One picture for each exported file: the neutral render, the enhanced one, and what was set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from attiqa.files import atomic_path
from isp_env.parameters import Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PICTURE_HEIGHT = 4.2  # inches
_ROW_HEIGHT = 0.235  # of a parameter
_UP, _DOWN = "#2f6f9f", "#b5622d"


def draw_sheet(
    path: Path,
    title: str,
    pictures: Mapping[str, torch.Tensor],
    values: Sequence[tuple[Parameter, float]],
) -> None:
    """Write the picture atomically.

    Args:
        path: a PNG.
        title: one line above all.
        pictures: captions, and float32 ``(3, h, w)`` of one size, display sRGB in [0, 1].
        values: what was set, and to which physical values.
    """
    # imported here: most exports draw nothing, and the import takes a third of a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = next(iter(pictures.values())).shape[-2:]
    picture_width = min(max(_PICTURE_HEIGHT * width / height, 2.5), 7.5)
    figure_height = max(_PICTURE_HEIGHT, _ROW_HEIGHT * len(values)) + 0.9
    figure = Figure(
        figsize=(len(pictures) * picture_width + 5.0, figure_height), dpi=110, layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    cells = figure.subplots(1, len(pictures) + 1, width_ratios=[picture_width] * len(pictures) + [5.0])
    for cell, (caption, picture) in zip(cells, pictures.items(), strict=False):
        cell.imshow(as_bytes(picture))
        cell.set_title(caption, fontsize=9)
        cell.set_axis_off()
    _bars(cells[-1], values)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def as_bytes(picture: torch.Tensor) -> np.ndarray:
    """float32 ``(3, h, w)``, display sRGB in [0, 1], to uint8 ``(h, w, 3)``."""
    return (picture.permute(1, 2, 0).clamp(0, 1) * 255.0).round().to(torch.uint8).cpu().numpy()


def in_units(value: float, parameter: Parameter) -> str:
    """A physical value with its unit, such as ``+0.31 EV``."""
    digits = 2 if parameter.high - parameter.low < 20 else 1
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:+.{digits}f} {parameter.unit}".rstrip()


def _bars(axes: Axes, values: Sequence[tuple[Parameter, float]]) -> None:
    """Each parameter on its own scale, from its lower limit to its upper one; the bar begins at neutral."""
    for row, (parameter, value) in enumerate(values):
        span = parameter.high - parameter.low
        neutral, place = ((x - parameter.low) / span for x in (parameter.neutral, value))
        axes.barh(row, 1.0, color="#eeeeee", height=0.7)
        axes.barh(
            row, place - neutral, left=neutral, color=_UP if value >= parameter.neutral else _DOWN, height=0.7
        )
        axes.plot([neutral, neutral], [row - 0.42, row + 0.42], color="#666666", linewidth=0.9)
        for side, limit, align in ((-0.01, parameter.low, "right"), (1.01, parameter.high, "left")):
            axes.text(side, row, f"{limit:g}", ha=align, va="center", fontsize=6, color="#777777")
        axes.text(1.2, row, in_units(value, parameter), va="center", fontsize=7.5, family="monospace")
        axes.text(-0.2, row, parameter.name, ha="right", va="center", fontsize=7.5)
    axes.set(xlim=(-0.85, 1.9), ylim=(len(values) - 0.4, -0.6))
    axes.set_title("what was set, between its limits", fontsize=9)
    axes.set_axis_off()
