"""Pretraining (section 3.4): attribute heads learn to rank images as their pseudo-labels do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from attiqa.errors import InputError
from attiqa.losses import margin_ranking_loss, ordered_pair_loss, regression_loss
from attiqa.nn.backbones import freeze_normalisation
from attiqa.nn.network import AttributeNetwork
from attiqa.training.distorted import LabelledBatch
from attiqa.training.loop import BatchSource, train
from attiqa.training.processes import Processes

LOSSES = {"ranking": margin_ranking_loss, "l2": regression_loss}


def pretrain(
    network: AttributeNetwork,
    batches: BatchSource,
    steps: int,
    *,
    learning_rate: float = 3e-4,
    weight_decay: float = 0.01,
    warmup: int = 50,
    loss: str = "ranking",
    quality_weight: float = 0.0,
    frozen_statistics: bool = True,
    precision: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    state_every: int = 200,
    report: Callable[[int, float], None] | None = None,
    compiled: bool = False,
    processes: Processes | None = None,
) -> list[float]:
    """Train `network` in place.

    Args:
        network: its backbone and heads learn; its regressor too where `quality_weight` is above zero.
        batches: gives the batch of each step; a function of the step alone, which makes resuming exact.
        steps: number of optimiser steps (AdamW, cosine schedule: our choice).
        learning_rate: peak.
        weight_decay: AdamW's.
        warmup: steps of linear warm-up.
        loss: ``ranking`` (Eq. 3, 4) or ``l2`` (the ablation).
        quality_weight: weight of the ranking loss on the quality order of the batch, our addition.
        frozen_statistics: keep the batch norms' statistics fixed.
        precision: ``torch.bfloat16`` for autocast.
        device: where to train.
        state: file that holds the run; found at the start, it is continued.
        state_every: steps between writes of `state`.
        report: called with (steps made, loss) after every step.
        compiled: run the network through `torch.compile`.
        processes: several processes that share each batch; their losses and weights are those of one.

    Returns:
        The loss of every step made by this call.
    """
    if steps < 1 or loss not in LOSSES:
        raise InputError(
            f"expected steps >= 1 and a loss among {', '.join(LOSSES)}; got {steps} and {loss!r}."
        )
    device = torch.device(device)
    together = processes or Processes()
    network.to(device).to(memory_format=torch.channels_last).train()
    if frozen_statistics:
        freeze_normalisation(network)
    else:
        together.share_statistics(network)
    forward = torch.compile(network) if compiled else network

    def objective(images: torch.Tensor, batch: LabelledBatch) -> torch.Tensor:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            attributes, quality = forward(images)
        # (B_local, ...) to (B, ...): pairs run over the whole batch, also across processes
        exact = torch.promote_types(quality.dtype, torch.float32)
        attributes, quality = (together.gathered(rows.to(exact)) for rows in (attributes, quality))
        total = LOSSES[loss](attributes, together.gathered(batch.labels.to(device)))
        if quality_weight and batch.order is not None:
            total = total + quality_weight * ordered_pair_loss(quality, batch.order.to(device))
        return total

    # the regressor's linear path is for small sets of ratings; see attiqa.training.regressor
    learning = [value for name, value in network.named_parameters() if name != "regressor.linear.weight"]
    losses = train(
        network,
        learning,
        batches,
        objective,
        steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        device=device,
        state=state,
        state_every=state_every,
        report=report,
        processes=together,
    )
    network.eval()
    return losses
