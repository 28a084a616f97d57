"""How a score of a render rises with each of its parameters: backwards through the score to the pixels, and
from there through the very pipeline.

The pipeline writes into buffers of its own, again and again, because that is fastest, and autograd refuses
such writes. So that there is one pipeline and not two, they are made good here: what would be written by
``out=`` is computed and copied, and what is overwritten before the way back is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.overrides import TorchFunctionMode

from attiqa.interrupts import held_back


class Copying(TorchFunctionMode):
    """Calls with ``out=`` compute a tensor of their own, which is then copied there: that has a gradient."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """One call of torch."""
        arguments = dict(kwargs or {})
        out = arguments.pop("out", None)
        if out is None:
            return func(*args, **arguments)
        return out.copy_(func(*args, **arguments))


@contextmanager
def tracing() -> Iterator[None]:
    """Where renders of `Pipeline.traced` are made and gone back through.

    Each operation costs more here than the arithmetic of a small one, so networks score outside.
    """
    with torch.enable_grad(), allow_mutation_on_saved_tensors():
        yield


def slopes_of(scores: Tensor, images: Tensor) -> list[Tensor]:
    """How each column of `scores` ``(B, K)`` rises with the pixels that they were made of.

    Args:
        scores: of `images`, an image a row.
        images: ``(B, 3, H, W)``, which asked for gradients.

    Returns:
        K tensors ``(B, 3, H, W)``.
    """
    return _gradients([(column, None) for column in scores.sum(dim=0).unbind()], images)


def carried_back(pixels: Sequence[Tensor], images: Tensor, values: Tensor) -> Tensor:
    """Slopes along pixels as slopes along the values that `images` were rendered with, in `tracing`.

    What is not finite, where a pixel stands on a corner of an operator, counts as level.

    Args:
        pixels: K tensors ``(B, 3, H, W)``, from `slopes_of`.
        images: ``(B, 3, H, W)``, traced.
        values: ``(B, P)``, which asked for gradients.

    Returns:
        ``(B, K, P)``.
    """
    slopes = _gradients([(images, each) for each in pixels], values)
    return torch.nan_to_num(torch.stack(slopes, dim=1), nan=0.0, posinf=0.0, neginf=0.0)


def _gradients(ends: Sequence[tuple[Tensor, Tensor | None]], start: Tensor) -> list[Tensor]:
    """From each end, with the weights of its entries where it is no single number, back to `start`.

    An interrupt waits for the end of the way: torch keeps the rest of one that broke off in a hook of
    `tracing`, and crashes when the interpreter ends before it.
    """
    last = len(ends) - 1
    found: list[Tensor] = []
    for number, (end, weights) in enumerate(ends):
        with held_back():
            found += torch.autograd.grad(end, start, weights, retain_graph=number < last)
    return found
