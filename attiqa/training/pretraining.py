"""Pretraining (section 3.4): attribute heads learn to rank images as their pseudo-labels do."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from attiqa.errors import InputError
from attiqa.losses import margin_ranking_loss, ordered_pair_loss, regression_loss
from attiqa.nn.backbones import freeze_normalisation
from attiqa.nn.network import AttributeNetwork
from attiqa.training.distorted import LabelledBatch
from attiqa.training.processes import Processes
from attiqa.training.state import load_state, save_state

BatchSource = Callable[[int], LabelledBatch]

LOSSES = {"ranking": margin_ranking_loss, "l2": regression_loss}


def cosine_rate(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate: linear warm-up over `warmup` steps, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def prefetched(batches: BatchSource, first: int, steps: int, ahead: int = 2) -> Iterator[LabelledBatch]:
    """Make batches ``first .. steps - 1`` on a second thread, at most `ahead` before they are needed."""
    line: queue.Queue[LabelledBatch | BaseException] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def offer(item: LabelledBatch | BaseException) -> None:
        while not stopped.is_set():
            try:
                line.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in range(first, steps):
                if stopped.is_set():
                    return
                offer(batches(step))
        except BaseException as error:  # handed to the consumer, who raises it
            offer(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        for _ in range(first, steps):
            item = line.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()


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
    processes = processes or Processes()
    network.to(device).to(memory_format=torch.channels_last).train()
    forward = torch.compile(network) if compiled else network
    if frozen_statistics:
        freeze_normalisation(network)
    # the regressor's linear path is for small sets of ratings; see attiqa.training.regressor
    learning = [value for name, value in network.named_parameters() if name != "regressor.linear.weight"]
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=weight_decay)
    first = load_state(state, network, optimizer) if state and state.exists() else 0
    losses: list[float] = []
    started = time.perf_counter()
    # a network on the CPU has all cores: batches made beside it would slow both, so they take turns
    coming = map(batches, range(first, steps)) if device.type == "cpu" else prefetched(batches, first, steps)
    bar = tqdm(
        coming, total=steps, initial=first, desc="pretraining", unit="step", disable=not processes.is_first
    )
    for step, batch in enumerate(bar, start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * cosine_rate(step, steps, warmup)
        images = batch.images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            attributes, quality = forward(images)
        # (B_local, ...) to (B, ...): pairs run over the whole batch, also across processes
        attributes, quality = processes.gathered(attributes.float()), processes.gathered(quality.float())
        total = LOSSES[loss](attributes, processes.gathered(batch.labels.to(device)))
        if quality_weight and batch.order is not None:
            total = total + quality_weight * ordered_pair_loss(quality, batch.order.to(device))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        processes.sum_gradients(learning)
        optimizer.step()
        losses.append(float(total.detach()))
        speed = len(losses) * len(attributes) / (time.perf_counter() - started)
        bar.set_postfix(
            loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}", images=f"{speed:.0f}/s", refresh=False
        )
        if state and processes.is_first and ((step + 1) % state_every == 0 or step + 1 == steps):
            save_state(state, network, optimizer, step + 1)
        if report:
            report(step + 1, losses[-1])
    network.eval()
    return losses
