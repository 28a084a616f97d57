"""What every source of raws yields and every render starts from: camera-linear frames and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch


@dataclass(frozen=True)
class RawFrame:
    """One demosaicked raw, upright, before white balance.

    Attributes:
        image: float32 ``(3, H, W)``, camera linear: black subtracted, 1.0 is sensor saturation.
        white_balance: float32 ``(3,)``, as-shot gains with the smallest (nearly always green) at 1, so that a
            saturated sensor reaches 1.0 in every channel.
        color_matrix: float32 ``(3, 3)``, white-balanced camera linear to linear sRGB; rows sum to 1.
        name: what to call the frame in tables and file names.
        digest: SHA-256 of the file it came from, 64 hexadecimal digits.
        notes: sentences on whatever had to be assumed, such as a missing colour matrix.
    """

    image: torch.Tensor
    white_balance: torch.Tensor
    color_matrix: torch.Tensor
    name: str
    digest: str
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class RawBatch:
    """Frames of one size, stacked.

    Attributes:
        image: float32 ``(B, 3, H, W)``, camera linear.
        white_balance: float32 ``(B, 3)``, as-shot gains with the smallest at 1.
        color_matrix: float32 ``(B, 3, 3)``, white-balanced camera linear to linear sRGB.
    """

    image: torch.Tensor
    white_balance: torch.Tensor
    color_matrix: torch.Tensor

    @classmethod
    def stack(cls, frames: Sequence[RawFrame]) -> RawBatch:
        """Stack frames of one ``(H, W)``; raises `ValueError` where the sizes differ."""
        sizes = sorted({tuple(frame.image.shape[-2:]) for frame in frames})
        if len(sizes) != 1:
            raise ValueError(
                f"a batch holds frames of one size; these have {sizes}: group them by size first."
            )
        return cls(
            image=torch.stack([frame.image for frame in frames]),
            white_balance=torch.stack([frame.white_balance for frame in frames]),
            color_matrix=torch.stack([frame.color_matrix for frame in frames]),
        )

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, device: torch.device | str) -> RawBatch:
        """The batch on another device."""
        return RawBatch(self.image.to(device), self.white_balance.to(device), self.color_matrix.to(device))

    def select(self, index: torch.Tensor | slice) -> RawBatch:
        """The rows named by `index` (int64, bool, or a slice: a view)."""
        return RawBatch(self.image[index], self.white_balance[index], self.color_matrix[index])


class FrameSource(Protocol):
    """A numbered collection of raws that environments draw from."""

    @property
    def names(self) -> Sequence[str]:
        """One name a frame, in order; its length is the number of frames."""

    def frame(self, index: int, short_side: int) -> RawFrame:
        """Frame `index`, its short side area-averaged down in camera linear to `short_side` pixels."""

    def libraw_auto(self, index: int, short_side: int) -> torch.Tensor:
        """LibRaw's automatic render: float32 ``(3, H, W)``, display sRGB, as large as `frame`'s image."""
