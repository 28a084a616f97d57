"""How a score of a render rises with each of its parameters: one backward pass through the very pipeline.

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
    """Where renders of `Pipeline.traced` are made, scored and gone back through."""
    with torch.enable_grad(), allow_mutation_on_saved_tensors():
        yield


def slopes_of(scores: Tensor, values: Tensor) -> Tensor:
    """How each of `scores` ``(B, K)`` rises with its row of `values` ``(B, P)``, in `tracing`: ``(B, K, P)``.

    What is not finite, where a pixel stands on a corner of an operator, counts as level.
    """
    columns = scores.sum(dim=0).unbind()
    slopes = [torch.autograd.grad(column, values, retain_graph=True)[0] for column in columns[:-1]]
    slopes.append(torch.autograd.grad(columns[-1], values)[0])
    return torch.nan_to_num(torch.stack(slopes, dim=1), nan=0.0, posinf=0.0, neginf=0.0)
