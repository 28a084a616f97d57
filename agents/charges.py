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
# operators that compare a pixel with those beside it, which sparse samples lack: they take half of the time
# and change next to nothing of a charge (TRIALS.md), so they stay neutral here
BETWEEN_NEIGHBOURS = frozenset({"denoise", "sharpen"})

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
        told = [parameter.operator not in BETWEEN_NEIGHBOURS for parameter in space.parameters]
        self._told = torch.tensor(told, device=raw.image.device)

    def __call__(self, settings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of settings ``(B, P)``, as actions: the charge ``(B,)``, in units of the reward, and its slopes.

        Slopes ``(B, P)`` are differences to settings a little apart, inside the limits: a count has no other.
        Parameters of `BETWEEN_NEIGHBOURS` have none.
        """
        still = settings * self._told
        steps = torch.where(settings > 1.0 - STEP, -STEP, STEP)
        aside = still[:, None] + torch.diag_embed(steps)[:, self._told]
        charged = self._at(torch.cat([still[:, None], aside], dim=1))
        slopes = torch.zeros_like(settings)
        slopes[:, self._told] = (charged[:, 1:] - charged[:, :1]) / steps[:, self._told]
        return charged[:, 0], slopes

    @torch.no_grad()
    def _at(self, settings: torch.Tensor) -> torch.Tensor:
        """Of ``(B, C, P)``, C settings of each raw: ``(B, C)``."""
        which = torch.arange(len(settings), device=settings.device).repeat_interleave(settings.shape[1])
        values = self._space.to_physical(settings.flatten(0, 1).float())
        images = self._pipeline(self._raw.select(which), values)
        return self._charge(images, self._neutral[which]).to(settings).view(settings.shape[:2])
