"""Several processes that share one batch, started by ``accelerate launch`` or ``torchrun``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed


class Processes:
    """The processes of this run; one, unless a process group is up (`start` brings it up).

    Every process holds a slice of the batch, computes the loss of the *whole* batch and sums gradients with
    the others: the losses and the weights are those of one process with the same batch, to float tolerance.
    """

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.count = distributed.get_world_size() if joined else 1

    @classmethod
    def start(cls, on_cpu: bool = False) -> Processes:
        """Join the processes that a launcher started, if one did."""
        # imported here: it takes a second, and a single process has no use for it
        from accelerate import PartialState

        PartialState(cpu=on_cpu)
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def slice(self, batch: int) -> slice:
        """This process's rows of a batch, which must be a multiple of `count`."""
        share = batch // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def gathered(self, values: torch.Tensor) -> torch.Tensor:
        """``(B_local, ...)`` of every process as ``(B, ...)``; gradients reach this process's rows."""
        if self.count == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.count)]
        distributed.all_gather(parts, values.detach().contiguous())
        parts[self.rank] = values
        return torch.cat(parts)

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
