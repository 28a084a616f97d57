"""What policies and searches answer with, one row a frame: settings of parameters, or sequences of tools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from agents.search import Floats, Indices
from isp_env.envs.core import Core, Renderer
from isp_env.envs.frames import Group
from isp_env.envs.tools import Tools
from isp_env.frame import RawBatch
from isp_env.parameters import Parameter, ParameterSpace

LEAST_MOVED = 0.01  # of half the range; less cannot be seen
_TOOL = partial(Parameter, unit="", low=-1.0, high=1.0, neutral=0.0, operator="tool", doc="strength")


class Answer(Protocol):
    """One way of rendering for each of F frames."""

    def __len__(self) -> int:
        """F."""

    def scaled(self, share: float | Floats) -> Answer:
        """The same at a share of its strength, one for all rows or ``(F,)``: 0 is neutral."""

    def render(self, batch: RawBatch, rows: Indices) -> torch.Tensor:
        """Render ``batch[i]`` as row ``rows[i]`` says: ``(b, 3, H, W)``, display sRGB in [0, 1]."""

    def rows(self, rows: Sequence[int] | Indices) -> Answer:
        """Some of the rows, as an answer of their own."""

    def where(self, holds: npt.NDArray[np.bool_], other: Self) -> Self:
        """Rows of this one where ``holds (F,)``, and of another one of its kind elsewhere."""

    def without(self, names: Collection[str], rows: npt.NDArray[np.bool_]) -> Self:
        """The same, but that `names`, parameters or tools, do nothing in ``rows (F,)``."""

    def differs(self, other: Self) -> npt.NDArray[np.bool_]:
        """Which rows are not those of another one of its kind: ``(F,)``."""

    def values(self, row: int) -> list[tuple[Parameter, float]]:
        """What a row sets, and to which physical values; of tools those that are used, in their order."""

    def record(self, row: int) -> dict[str, Any]:
        """The same as JSON values, to stand beside an export."""

    def describe(self, row: int, count: int = 6) -> str:
        """What a row moves furthest, up to `count` things, in physical units, one a line."""


@dataclass(frozen=True)
class Settings:
    """One setting of all parameters a frame.

    Attributes:
        actions: ``(F, P)`` in [-1, 1]; 0 is neutral.
        space: the parameters.
        pipeline: the renderer that takes them.
    """

    actions: Floats
    space: ParameterSpace
    pipeline: Renderer

    def __len__(self) -> int:
        """See `Answer`."""
        return len(self.actions)

    def scaled(self, share: float | Floats) -> Settings:
        """See `Answer`."""
        return Settings(self.actions * np.reshape(share, (-1, 1)), self.space, self.pipeline)

    def physical(self) -> torch.Tensor:
        """Physical values ``(F, P)``."""
        return self.space.to_physical(torch.as_tensor(self.actions, dtype=torch.float32))

    def render(self, batch: RawBatch, rows: Indices) -> torch.Tensor:
        """See `Answer`."""
        return self.pipeline(batch, self.rows(rows).physical().to(batch.image.device))

    def rows(self, rows: Sequence[int] | Indices) -> Settings:
        """See `Answer`."""
        return Settings(self.actions[np.asarray(rows)], self.space, self.pipeline)

    def where(self, holds: npt.NDArray[np.bool_], other: Settings) -> Settings:
        """See `Answer`."""
        return Settings(np.where(holds[:, None], self.actions, other.actions), self.space, self.pipeline)

    def without(self, names: Collection[str], rows: npt.NDArray[np.bool_]) -> Settings:
        """See `Answer`."""
        named = np.array([name in names for name in self.space.names])
        return Settings(np.where(rows[:, None] & named, 0.0, self.actions), self.space, self.pipeline)

    def differs(self, other: Settings) -> npt.NDArray[np.bool_]:
        """See `Answer`."""
        return np.any(self.actions != other.actions, axis=1)

    def values(self, row: int) -> list[tuple[Parameter, float]]:
        """See `Answer`; all parameters, in the order of the space."""
        return list(zip(self.space.parameters, self.physical()[row].tolist(), strict=True))

    def record(self, row: int) -> dict[str, Any]:
        """See `Answer`."""
        return {
            "parameters": self.space.as_dict(self.physical()[row]),
            "units": {parameter.name: parameter.unit for parameter in self.space.parameters},
        }

    def describe(self, row: int, count: int = 6) -> str:
        """See `Answer`."""
        values, rows = self.physical()[[row]], self.space.parameters
        # back in [-1, 1]: what lies beyond a one-sided parameter's neutral end moves nothing
        moved = self.space.to_action(values)[0].abs().numpy()
        furthest = [number for number in np.argsort(-moved)[:count] if moved[number] > LEAST_MOVED]
        return "\n".join(
            f"{rows[number].name} {values[0, number]:+.2f} {rows[number].unit}".rstrip()
            for number in sorted(furthest)
        )


@dataclass(frozen=True)
class Sequences:
    """One sequence of tools a frame.

    Attributes:
        order: ``(F, K)``, the step in which each tool is used, from 1; 0 for unused.
        strengths: ``(F, K)`` in [-1, 1].
        tools: what they name.
    """

    order: Indices
    strengths: npt.NDArray[np.float32]
    tools: Tools

    def __len__(self) -> int:
        """See `Answer`."""
        return len(self.order)

    def used(self, row: int) -> list[tuple[str, float]]:
        """The tools of a row with their strengths, in the order of their use."""
        steps = self.order[row]
        numbers = sorted(np.flatnonzero(steps), key=lambda number: steps[number])
        return [(self.tools.names[number], float(self.strengths[row, number])) for number in numbers]

    def scaled(self, share: float | Floats) -> Sequences:
        """See `Answer`."""
        strengths = self.strengths * np.reshape(share, (-1, 1)).astype(np.float32)
        return Sequences(self.order, strengths, self.tools)

    def render(self, batch: RawBatch, rows: Indices) -> torch.Tensor:
        """See `Answer`."""
        strengths = torch.as_tensor(self.strengths[rows], device=batch.image.device)
        return self.tools.render(batch, self.order[rows], strengths)

    def rows(self, rows: Sequence[int] | Indices) -> Sequences:
        """See `Answer`."""
        chosen = np.asarray(rows)
        return Sequences(self.order[chosen], self.strengths[chosen], self.tools)

    def where(self, holds: npt.NDArray[np.bool_], other: Sequences) -> Sequences:
        """See `Answer`."""
        order = np.where(holds[:, None], self.order, other.order)
        return Sequences(order, np.where(holds[:, None], self.strengths, other.strengths), self.tools)

    def without(self, names: Collection[str], rows: npt.NDArray[np.bool_]) -> Sequences:
        """See `Answer`; they keep their places, without strength."""
        named = np.array([name in names for name in self.tools.names])
        strengths = np.where(rows[:, None] & named, np.float32(0.0), self.strengths)
        return Sequences(self.order, strengths, self.tools)

    def differs(self, other: Sequences) -> npt.NDArray[np.bool_]:
        """See `Answer`."""
        return np.any((self.order != other.order) | (self.strengths != other.strengths), axis=1)

    def values(self, row: int) -> list[tuple[Parameter, float]]:
        """See `Answer`."""
        return [(_TOOL(name), strength) for name, strength in self.used(row)]

    def record(self, row: int) -> dict[str, Any]:
        """See `Answer`."""
        return {"tools": [{"tool": name, "strength": strength} for name, strength in self.used(row)]}

    def describe(self, row: int, count: int = 6) -> str:
        """See `Answer`; in the order of their use."""
        return "\n".join(f"{name} {strength:+.2f}" for name, strength in self.used(row)[:count])


def sequences_at(points: Floats, tools: Tools, horizon: int) -> Sequences:
    """Points of a box as sequences of tools, so that a search over boxes can search these.

    Args:
        points: ``(F, 1 + 2 K)`` in [-1, 1]: how many tools, from none to `horizon`; a preference for each
            tool, of which the highest are taken, the highest first; the strengths.
        tools: K tools.
        horizon: the most tools of a sequence.
    """
    count = len(tools.names)
    many = np.rint((points[:, :1] + 1.0) / 2.0 * min(horizon, count)).astype(np.int64)  # (F, 1)
    rank = np.argsort(np.argsort(-points[:, 1 : 1 + count], axis=1), axis=1) + 1
    order = np.where(rank <= many, rank, 0)
    return Sequences(order, points[:, 1 + count :].astype(np.float32), tools)


def potential_of(core: Core, frames: Indices, answer: Answer) -> torch.Tensor:
    """The reward's value of frame ``frames[i]`` rendered as row i says: float32 ``(B,)``."""
    return measured(core, frames, answer, core.score)


@torch.no_grad()
def measured(
    core: Core, frames: Indices, answer: Answer, measure: Callable[[torch.Tensor, Group], torch.Tensor]
) -> torch.Tensor:
    """What `measure` says of frame ``frames[i]`` rendered as row i says: ``(B,)``.

    Args:
        core: frames and renderer.
        frames: ``(B,)``.
        answer: B rows.
        measure: renders ``(b, 3, H, W)`` of the frames of a group, and that group, to ``(b,)``.
    """

    def run(group: Group) -> dict[str, torch.Tensor]:
        return {"value": measure(answer.render(group.raw, group.members.cpu().numpy()), group)}

    return core.table.batched(frames, run)["value"]


def images_of(core: Core, frames: Indices, answer: Answer) -> list[torch.Tensor]:
    """Frame ``frames[i]`` rendered as row i says: B images ``(3, H, W)``, display sRGB in [0, 1]."""
    return core.images_of(frames, lambda group: answer.render(group.raw, group.members.cpu().numpy()))
