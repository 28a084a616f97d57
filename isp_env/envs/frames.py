"""Camera-linear previews on the device, grouped by shape: a mixed batch runs once a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attiqa.errors import InputError
from isp_env.frame import FrameSource, RawBatch, RawFrame
from isp_env.sources import group_by_shape, in_threads

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Group:
    """Members of a batch whose frames share one shape.

    Attributes:
        shelf: all frames of that shape.
        bucket: the shelf's number in the table.
        rows: int64 ``(b,)``, their rows on the shelf.
        members: int64 ``(b,)``, their positions in the batch.
    """

    shelf: RawBatch
    bucket: int
    rows: torch.Tensor
    members: torch.Tensor

    @property
    def raw(self) -> RawBatch:
        """Their frames, ``(b, 3, H, W)`` camera linear; a copy each time."""
        return self.shelf.select(self.rows)

    @property
    def size(self) -> tuple[int, int]:
        """Their ``(H, W)``."""
        height, width = self.shelf.image.shape[-2:]
        return height, width


class FrameTable:
    """All frames of a source, decoded once, stacked by shape on one device.

    Frames that cannot be decoded are left out and named in `failures`; frame numbers count the others.

    Attributes:
        names: one name a frame, in order.
        source_indices: int64 ``(N,)``, the number that the source gives each frame.
        failures: ``(name, sentence)`` of each frame that could not be decoded.
        buckets: one `RawBatch` a shape.
        bucket_of, row_of: int64 ``(N,)``, where each frame lies.
    """

    def __init__(self, frames: Sequence[RawFrame], device: torch.device, max_batch: int) -> None:
        if max_batch < 1:
            raise InputError(f"max_batch must be at least 1; got {max_batch}.")
        self.device, self.max_batch = device, max_batch
        self.names = [frame.name for frame in frames]
        self.source_indices = np.arange(len(frames))
        self.failures: list[tuple[str, str]] = []
        self.buckets: list[RawBatch] = []
        self.bucket_of, self.row_of = np.zeros((2, len(frames)), dtype=np.int64)
        for bucket, numbers in enumerate(group_by_shape(frames).values()):
            self.buckets.append(RawBatch.stack([frames[number] for number in numbers]).to(device))
            self.bucket_of[numbers] = bucket
            self.row_of[numbers] = np.arange(len(numbers))

    @classmethod
    def load(
        cls, source: FrameSource, short_side: int, device: torch.device, max_batch: int = 64
    ) -> FrameTable:
        """Decode every frame of `source`; threads, because LibRaw releases the interpreter lock.

        Raises:
            InputError: the source holds no frame that can be decoded.
        """
        names = list(source.names)

        def decode(index: int) -> RawFrame | str:
            try:
                return source.frame(index, short_side)
            except InputError as error:
                return str(error)

        decoded = in_threads(decode, range(len(names)), None, "decoding raws")
        good = {index: frame for index, frame in enumerate(decoded) if isinstance(frame, RawFrame)}
        failures = [
            (name, frame) for name, frame in zip(names, decoded, strict=True) if isinstance(frame, str)
        ]
        if not good:
            reason = f" (the first: {failures[0][1]})" if failures else ""
            raise InputError(f"an environment needs at least one frame; the source gave none{reason}.")
        table = cls(list(good.values()), device, max_batch)
        table.source_indices, table.failures = np.array(list(good)), failures
        return table

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bucket_sizes(self) -> np.ndarray:
        """int64 ``(buckets,)``: how many frames share each shape."""
        return np.bincount(self.bucket_of, minlength=len(self.buckets))

    def groups(self, frames: np.ndarray) -> list[Group]:
        """Cut a batch, given as frame numbers int64 ``(B,)``, into groups of one shape.

        No group is larger than `max_batch`, which bounds memory for searches over many candidates.
        """
        frames = self.check(frames)
        buckets = self.bucket_of[frames]
        groups = []
        for bucket in np.unique(buckets):
            positions = np.flatnonzero(buckets == bucket)
            for start in range(0, len(positions), self.max_batch):
                members = positions[start : start + self.max_batch]
                rows = torch.as_tensor(self.row_of[frames[members]], device=self.device)
                places = torch.as_tensor(members, device=self.device)
                groups.append(Group(self.buckets[bucket], int(bucket), rows, places))
        return groups

    def batched(self, frames: np.ndarray, run: Callable[[Group], Tensors]) -> Tensors:
        """Run once a group and put the rows back in the batch's order.

        Args:
            frames: frame numbers, int64 ``(B,)``.
            run: a group to named tensors, each with the group's ``b`` rows.
        """
        groups = self.groups(frames)
        parts = [run(group) for group in groups]
        if len(groups) == 1:
            return parts[0]
        order = torch.argsort(torch.cat([group.members for group in groups]))
        return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}

    def check(self, frames: np.ndarray) -> np.ndarray:
        """Frame numbers as int64 ``(B,)``, each of which exists."""
        numbers = np.asarray(frames)
        if numbers.ndim != 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(
                f"frame numbers are a list of integers; got {numbers.dtype} of shape {numbers.shape}."
            )
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise InputError(
                f"frame numbers run from 0 to {len(self) - 1}; got {numbers.min()} to {numbers.max()}."
            )
        return numbers.astype(np.int64)
