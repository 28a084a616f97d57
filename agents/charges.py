"""What a reward takes off for a setting, told before it is tried.

A guarded reward charges for clipped pixels and for colours that go astray. That is known of a render alone,
and a small one will do: of a few thousand pixels of a raw, a dozen settings are rendered in the time of a
tenth of a score. Nothing is scored here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from isp_env.envs.core import Renderer
from isp_env.frame import RawBatch
from isp_env.parameters import ParameterSpace

# between the two settings that tell a slope, in units of action: where pixels are counted, as clipped ones
# are, a smaller one would tell the noise of the count
STEP = 0.05

Charge = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Charges:
    """The charge for settings of some raws, one a raw.

    Args:
        raw: B small raws.
        space: the parameters that `pipeline` takes.
        pipeline: the renderer.
        charge: renders and neutral renders ``(N, 3, H, W)`` to ``(N,)``; see `isp_env.envs.core.Core`.
    """

    def __init__(self, raw: RawBatch, space: ParameterSpace, pipeline: Renderer, charge: Charge) -> None:
        self._raw, self._space, self._pipeline, self._charge = raw, space, pipeline, charge
        self._neutral = pipeline.neutral(raw)

    def __call__(self, settings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of settings ``(B, P)``, as actions: the charge ``(B,)``, in units of the reward, and its slopes.

        Slopes ``(B, P)`` are differences to settings a little apart, inside the limits: a count has no other.
        """
        steps = torch.where(settings > 1.0 - STEP, -STEP, STEP)
        tried = torch.cat([settings[:, None], settings[:, None] + torch.diag_embed(steps)], dim=1)
        charged = self._at(tried)
        return charged[:, 0], (charged[:, 1:] - charged[:, :1]) / steps

    @torch.no_grad()
    def _at(self, settings: torch.Tensor) -> torch.Tensor:
        """Of ``(B, C, P)``, C settings of each raw: ``(B, C)``."""
        which = torch.arange(len(settings), device=settings.device).repeat_interleave(settings.shape[1])
        values = self._space.to_physical(settings.flatten(0, 1).float())
        images = self._pipeline(self._raw.select(which), values)
        return self._charge(images, self._neutral[which]).to(settings).view(settings.shape[:2])
