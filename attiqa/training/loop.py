"""The training loop that pretraining methods share: prefetching, schedule, precision, state, processes."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from attiqa.losses import finite
from attiqa.progress import progress_bar
from attiqa.training.distorted import LabelledBatch
from attiqa.training.processes import Processes
from attiqa.training.state import load_state, save_state

BatchSource = Callable[[int], LabelledBatch]
STATE_SECONDS = 300.0  # where steps are slow, a state is written this often, whatever `state_every` says

Objective = Callable[[torch.Tensor, LabelledBatch], torch.Tensor]


def cosine_rate(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate: linear warm-up over `warmup` steps, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class StateClock:
    """When a training loop writes its state: every so many steps or seconds, and at the end."""

    def __init__(self, steps: int, every: int) -> None:
        self.steps, self.every = steps, every
        self._since = time.monotonic()

    def due(self, made: int) -> bool:
        """Whether to write after `made` steps."""
        waited = time.monotonic() - self._since >= STATE_SECONDS
        if not (waited or made % self.every == 0 or made == self.steps):
            return False
        self._since = time.monotonic()
        return True


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


def upcoming(
    batches: BatchSource, first: int, steps: int, device: torch.device | str
) -> Iterator[LabelledBatch]:
    """Batches ``first .. steps - 1``; beside a GPU they are made ahead.

    A network on the CPU has all cores: batches made beside it would slow both, so they take turns.
    """
    if torch.device(device).type == "cpu":
        return map(batches, range(first, steps))
    return prefetched(batches, first, steps)


def train(
    network: nn.Module,
    learning: Sequence[torch.Tensor],
    batches: BatchSource,
    objective: Objective,
    steps: int,
    *,
    learning_rate: float,
    weight_decay: float = 0.01,
    warmup: int = 50,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    state_every: int = 200,
    report: Callable[[int, float], None] | None = None,
    processes: Processes | None = None,
) -> list[float]:
    """Minimise `objective` over `steps` batches with AdamW and a cosine schedule (our choice).

    Args:
        network: what `state` keeps; in training mode as the caller wants it.
        learning: those of its parameters that learn.
        batches: gives the batch of each step; a function of the step alone, which makes resuming exact.
        objective: ``(images on the device, batch) -> scalar``; it runs the network.
        steps: number of optimiser steps.
        learning_rate: peak.
        weight_decay: AdamW's.
        warmup: steps of linear warm-up.
        device: where the batches go.
        state: file that holds the run; found at the start, it is continued.
        state_every: steps between writes of `state`; slow steps are written after `STATE_SECONDS`.
        report: called with (steps made, loss) after every step.
        processes: several processes that share each batch.

    Returns:
        The loss of every step made by this call.

    Raises:
        InputError: the loss is no longer finite, or `state` is another run's.
    """
    device = torch.device(device)
    processes = processes or Processes()
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=weight_decay)
    first = load_state(state, network, optimizer) if state and state.exists() else 0
    losses: list[float] = []
    clock = StateClock(steps, state_every)
    seen = 0
    started = time.perf_counter()
    bar = progress_bar(
        upcoming(batches, first, steps, device), total=steps, initial=first, desc="pretraining", unit="step",
        shown=processes.is_first,
    )  # fmt: skip
    for step, batch in enumerate(bar, start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * cosine_rate(step, steps, warmup)
        images = batch.images.to(device, memory_format=torch.channels_last)
        loss = objective(images, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.sum_gradients(learning)
        optimizer.step()
        losses.append(finite(loss, step))
        seen += len(images) * processes.count
        speed = seen / (time.perf_counter() - started)
        bar.set_postfix(
            loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}", images=f"{speed:.0f}/s", refresh=False
        )
        if state and processes.is_first and clock.due(step + 1):
            save_state(state, network, optimizer, step + 1)
        if report:
            report(step + 1, losses[-1])
    return losses
