"""Several processes that share one batch, started by ``accelerate launch`` or ``torchrun``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed, nn


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

    def share_statistics(self, network: nn.Module) -> None:
        """Let every batch norm of `network` normalise by the whole batch, in place, as one process would."""
        if self.count == 1:
            return
        for module in network.modules():
            for name, part in module.named_children():
                if type(part) is nn.BatchNorm2d:
                    setattr(module, name, SharedBatchNorm(part, self.count))


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm over the batches of all processes, which hold equal shares.

    `torch.nn.SyncBatchNorm` runs on GPUs alone, and averages gradients over processes where `Processes` adds
    them up.
    """

    def __init__(self, norm: nn.BatchNorm2d, count: int) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.__dict__.update(norm.__dict__)  # the same parameters and buffers, which an optimiser may hold
        self.count = count

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise ``(B_local, C, H, W)``."""
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))  # under autocast halves arrive
        mean = _Sum.apply(values.mean((0, 2, 3))) / self.count
        centred = values - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().mean((0, 2, 3))) / self.count
        self._remember(mean.detach(), variance.detach(), self.count * values[:, 0].numel())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, size: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * size / (size - 1), share)  # unbiased, as `nn.BatchNorm2d` keeps it


class _Sum(torch.autograd.Function):
    """The sum over processes; what each of them asks of it by gradient is added up too."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total
