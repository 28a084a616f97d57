"""The global colour part of an enhancement as a three-dimensional lookup table, a ``.cube`` file.

The table takes the camera's neutral render to the enhanced one, both display sRGB: any editor, player or
firmware that knows ``.cube`` can apply it. What looks at a pixel's neighbourhood cannot be in it, which is
why its error against the whole render is measured and written down beside it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from attiqa.fidelity import ciede2000, psnr
from attiqa.files import write_text
from isp_env.color import apply_matrix, look_up, srgb_to_linear
from isp_env.frame import RawBatch, RawFrame
from isp_env.pipeline import Pipeline

SIZE = 33  # points a side, what most programs expect

# they look at a pixel's neighbourhood, or at the whole scene
LOCAL_PARAMETERS = frozenset(
    {"denoise_luma", "denoise_chroma", "dehaze", "clarity", "clahe", "sharpen", "sharpen_radius"}
)

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Error:
    """How far a table's picture is from a render.

    Attributes:
        psnr: peak signal-to-noise ratio in dB; None where both are equal.
        ciede2000: mean colour difference.
    """

    psnr: float | None
    ciede2000: float


@dataclass(frozen=True)
class Lut:
    """A lookup table and what it is worth on the frame that it was made for.

    Attributes:
        table: ``(33, 33, 33, 3)``, display sRGB at ``[blue, green, red]``, in [0, 1].
        against_render: its picture against the whole render.
        against_global: against the render without the operators that no table can hold.
        left_out: names of parameters that are away from neutral and not in the table.
        short_side: pixels of the renders that the errors were measured on.
    """

    table: Table
    against_render: Error
    against_global: Error
    left_out: tuple[str, ...]
    short_side: int

    def record(self) -> dict[str, Any]:
        """All but the table, as JSON values."""
        return {
            "size": len(self.table),
            "input": "the neutral render, display sRGB",
            "output": "display sRGB",
            "left_out": list(self.left_out),
            "error_against_render": asdict(self.against_render),
            "error_against_global_operators": asdict(self.against_global),
            "measured_at_short_side": self.short_side,
        }


def build_lut(pipeline: Pipeline, frame: RawFrame, values: torch.Tensor) -> Lut:
    """Make the table of one frame's parameters and measure it on the frame.

    Args:
        pipeline: the renderer.
        frame: of a size at which three renders and colour differences cost little.
        values: physical values ``(P,)``.
    """
    space, batch = pipeline.space, RawBatch.stack([frame])
    is_local = torch.tensor([name in LOCAL_PARAMETERS for name in space.names])
    left_out = is_local & (values != space.neutral)
    only_global = torch.where(is_local, space.neutral, values)
    table = _table(pipeline, frame, only_global)
    picture = apply_table(table, pipeline.neutral(batch)[0])
    return Lut(
        table,
        against_render=_error(picture, pipeline(batch, values[None])[0]),
        against_global=_error(picture, pipeline(batch, only_global[None])[0]),
        left_out=tuple(name for name, out in zip(space.names, left_out.tolist(), strict=True) if out),
        short_side=min(frame.image.shape[-2:]),
    )


def _table(pipeline: Pipeline, frame: RawFrame, values: torch.Tensor) -> Table:
    """Send every point of the lattice back to the camera, and through the pipeline as an image of its own.

    So highlights, shadows, whites and blacks, which go by how bright a region is, take each colour for a
    region.
    """
    points = lattice(SIZE)
    # white-balanced camera linear, then as the sensor saw it
    camera = apply_matrix(srgb_to_linear(points), torch.linalg.inv(frame.color_matrix.double()).float())
    sensor = camera / frame.white_balance[:, None, None]
    count = len(sensor)
    flat = RawBatch(sensor, frame.white_balance.expand(count, 3), frame.color_matrix.expand(count, 3, 3))
    # a colour that this camera cannot deliver comes back as its nearest: what it lost that way is added again
    lost = points - pipeline.neutral(flat)
    table = (pipeline(flat, values.expand(count, -1)) + lost).clamp_(0.0, 1.0)
    return table.view(SIZE, SIZE, SIZE, 3).numpy()


def lattice(size: int) -> torch.Tensor:
    """All points of a table as images of one pixel: float32 ``(size^3, 3, 1, 1)``, red running fastest."""
    steps = torch.linspace(0.0, 1.0, size)
    blue, green, red = torch.meshgrid(steps, steps, steps, indexing="ij")
    return torch.stack([red, green, blue], dim=-1).view(-1, 3, 1, 1)


def apply_table(table: Table, image: torch.Tensor) -> torch.Tensor:
    """Look each pixel up, trilinearly.

    Args:
        table: ``(N, N, N, 3)`` at ``[blue, green, red]``.
        image: float32 ``(3, H, W)``, display sRGB in [0, 1].

    Returns:
        float32 ``(3, H, W)``, display sRGB.
    """
    return look_up(torch.from_numpy(table).permute(3, 0, 1, 2), image)


def write_cube(path: Path, lut: Lut, title: str) -> None:
    """Write a ``.cube`` file (Adobe, Cube LUT Specification 1.0) atomically, the errors as comments."""
    against = (
        ("the whole render", lut.against_render),
        ("the render without those parameters", lut.against_global),
    )
    # one line, and the specification knows no escape for a quotation mark
    name = " ".join(title.split()).replace('"', "'")
    lines = [
        "# from the neutral render to the enhanced one, both display sRGB",
        f"# not in the table: {', '.join(lut.left_out) or 'nothing'}",
        *(f"# error against {what}: {_sentence(error)}" for what, error in against),
        f"# errors measured at a short side of {lut.short_side} pixels",
        f'TITLE "{name}"',
        f"LUT_3D_SIZE {len(lut.table)}",
        "DOMAIN_MIN 0.0 0.0 0.0",
        "DOMAIN_MAX 1.0 1.0 1.0",
        *(f"{red:.6f} {green:.6f} {blue:.6f}" for red, green, blue in lut.table.reshape(-1, 3).tolist()),
    ]
    write_text(path, "\n".join(lines) + "\n")


def _error(picture: torch.Tensor, render: torch.Tensor) -> Error:
    ratio = psnr(picture, render)
    return Error(ratio if math.isfinite(ratio) else None, ciede2000(picture, render))


def _sentence(error: Error) -> str:
    ratio = "equal" if error.psnr is None else f"PSNR {error.psnr:.2f} dB"
    return f"{ratio}, mean CIEDE2000 {error.ciede2000:.3f}"
